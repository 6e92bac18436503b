"""Processors of one's own, and NUMA nodes that processors and devices agree on: policies, and pods that meet them."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.deviceplugin import Plugin, plugged
from tests.kubelet.world import World, container, play, play_in_real_time, pod
from tiphys.api.object import Object
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import apply_file
from tiphys.kubelet.devices import choice
from tiphys.kubelet.devices.ledger import Device
from tiphys.kubelet.podresources.messages import podresources
from tiphys.kubelet.topology.cpu_choice import NotEnoughCpus, choose
from tiphys.kubelet.topology.cpu_manager import CpuManager, CpuStateUnfit, checksum, from_checkpoint, to_checkpoint
from tiphys.kubelet.topology.cpu_options import CpuOption
from tiphys.kubelet.topology.cpusets import CpuPlace, CpuTopology, parse, read, text_of
from tiphys.kubelet.topology.hints import Hint, TopologyPolicy, merge
from tiphys.kubelet.topology.numa import Numa
from tiphys.kubelet.topology.setup import CannotAssign, cpu_manager, topology_rules
from tiphys.runtime.component import ConfigError
from tiphys.wire.grpc.caller import Caller
from tiphys.wire.grpc.stream import GrpcError

GPU = "example.com/gpu"


def machine(sockets: int = 1, nodes: int = 1, cores: int = 4, threads: int = 2) -> CpuTopology:
    """``cores`` in each of the smaller groups; the threads of a core are numbered apart, as machines do."""
    groups = max(sockets, nodes)
    total = groups * cores
    return CpuTopology(
        {
            thread * total + core: CpuPlace(core, core // cores * sockets // groups, core // cores * nodes // groups)
            for core in range(total)
            for thread in range(threads)
        }
    )


@pytest.mark.parametrize(
    ("text", "cpus", "again"),
    [("", [], ""), ("3", [3], "3"), ("0-2,5\n", [0, 1, 2, 5], "0-2,5"), ("5,4,1", [1, 4, 5], "1,4-5")],
)
def test_sets_as_the_kernel_writes_them(text: str, cpus: list[int], again: str) -> None:
    assert sorted(parse(text)) == cpus
    assert text_of(parse(text)) == again


@pytest.mark.parametrize("bad", ["a", "1-", "3-1", "-1", "0-99999999"])
def test_what_is_no_set(bad: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(bad)


def test_this_machine_is_read() -> None:
    topology = read()
    assert topology.all == parse(Path("/sys/devices/system/cpu/online").read_text())


ONE, TWO = machine(), machine(2, 2)


@pytest.mark.parametrize(
    ("topology", "available", "wanted", "spread", "cpus"),
    [
        (ONE, "0-7", 1, False, "0"),
        (ONE, "0-7", 2, False, "0,4"),
        (ONE, "0-7", 3, False, "0-1,4"),
        (ONE, "1-7", 1, False, "4"),  # what is left of a core that is used already
        (ONE, "1-7", 2, False, "1,5"),
        (ONE, "0-7", 8, False, "0-7"),
        (ONE, "0-7", 2, True, "0-1"),
        (ONE, "0-1", 2, False, "0-1"),
        (ONE, "", 0, False, ""),
        (TWO, "0-15", 8, False, "0-3,8-11"),
        (TWO, "1-15", 8, False, "4-7,12-15"),
        (TWO, "0-15", 10, False, "0-4,8-12"),
        (TWO, "2-15", 2, False, "2,10"),
        (TWO, "0-3,12-15", 2, False, "0-1"),
        (machine(1, 2), "0-15", 8, False, "0-3,8-11"),
        (machine(4, 2), "0-31", 16, False, "0-7,16-23"),
    ],
)
def test_whole_groups_first(topology: CpuTopology, available: str, wanted: int, spread: bool, cpus: str) -> None:
    assert text_of(choose(topology, parse(available), wanted, spread=spread)) == cpus


def test_no_more_than_there_are() -> None:
    with pytest.raises(NotEnoughCpus, match="requested=3, available=2"):
        choose(ONE, parse("0-1"), 3)


def hint(*nodes: int, preferred: bool = True) -> Hint:
    return Hint(frozenset(nodes) if nodes else None, preferred)


A, B, AB = hint(0), hint(1), hint(0, 1, preferred=False)
BEST, RESTRICTED, SINGLE = TopologyPolicy.BEST_EFFORT, TopologyPolicy.RESTRICTED, TopologyPolicy.SINGLE_NUMA_NODE


@pytest.mark.parametrize(
    ("policy", "hints", "best", "admitted"),
    [
        (TopologyPolicy.NONE, [{"cpu": []}], hint(), True),
        (BEST, [{}], hint(0, 1), True),
        (BEST, [{"cpu": [A, B, AB]}, {"gpu": [B, AB]}], B, True),
        (BEST, [{"cpu": [A, B]}], A, True),
        (BEST, [{"cpu": [A]}, {"gpu": [B]}], hint(0, 1, preferred=False), True),
        (RESTRICTED, [{"cpu": [A]}, {"gpu": [B]}], hint(0, 1, preferred=False), False),
        (RESTRICTED, [{"cpu": [hint(0, 1)]}], hint(0, 1), True),
        (RESTRICTED, [{"cpu": []}], hint(0, 1, preferred=False), False),
        (RESTRICTED, [{"cpu": None}, {"gpu": [B]}], B, True),
        (SINGLE, [{"cpu": [hint(0, 1)]}], hint(preferred=False), False),
        (SINGLE, [{"cpu": [A, B, AB]}, {"gpu": [B]}], B, True),
        (SINGLE, [{}], hint(), True),
    ],
)
def test_policies_agree_on_nodes(policy: TopologyPolicy, hints: list[Any], best: Hint, admitted: bool) -> None:
    assert merge(policy, [0, 1], hints) == (best, admitted)


def test_hints_of_devices() -> None:
    devices = {f"{node}{n}": Device(f"{node}{n}", "Healthy", (node,)) for node in (0, 1) for n in "ab"}
    assert choice.hints(devices, devices, (), 1) == [A, B, AB]
    assert choice.hints(devices, ["0a", "1a", "1b"], (), 2) == [B, AB]
    assert choice.hints(devices, devices, (), 3) == [hint(0, 1)]
    assert choice.hints(devices, devices, ["0a"], 1) == [A, AB]


# The manager.


FAR = {0: [10, 40, 40, 20], 1: [40, 10, 30, 40], 2: [40, 30, 10, 40], 3: [20, 40, 40, 10]}


@pytest.mark.parametrize(
    ("policy", "distances", "best"),
    [
        (RESTRICTED, FAR, hint(0, 3)),
        (RESTRICTED, None, hint(0, 1)),
        (BEST, {0: [10] * 4, 1: [10] * 4, 2: [10] * 4, 3: [10] * 4}, hint(0, 1)),
    ],
)
def test_nodes_that_are_close_to_each_other(policy: TopologyPolicy, distances: Any, best: Hint) -> None:
    pairs = [hint(0, 1), hint(1, 2), hint(0, 3)]
    assert merge(policy, [0, 1, 2, 3], [{"cpu": pairs}, {"gpu": pairs}], distances) == (best, True)


def test_processors_of_all_containers_together(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, TWO, parse("0"))
    two, eight = guaranteed("two", "2"), guaranteed("eight", "8")
    both = {**two, "spec": {**two["spec"], "containers": [container_of(two, "a"), container_of(eight, "b")]}}
    assert manager.pod_hints(both) == {"cpu": [hint(0, 1)]}
    initial = {**two, "spec": {**two["spec"], "initContainers": [container_of(eight, "i")]}}
    assert manager.pod_hints(initial) == {"cpu": [hint(1), hint(0, 1, preferred=False)]}
    assert manager.pod_hints(pod("plain")) == {}


def container_of(one: Object, name: str) -> Object:
    return {**one["spec"]["containers"][0], "name": name}


def guaranteed(name: str, cpu: str, *more: Object, device: int = 0, **spec: Any) -> Object:
    amounts = {"cpu": cpu, "memory": "1Gi", **({GPU: str(device)} if device else {})}
    return pod(name, container("main", resources={"requests": amounts, "limits": amounts}), *more, **spec)


def give(manager: CpuManager, made: Object, affinity: frozenset[int] | None = None) -> str:
    for one in [*(made["spec"].get("initContainers") or []), *made["spec"]["containers"]]:
        manager.allocate(made, one, affinity)
    return text_of(manager.exclusive(made["metadata"]["uid"], "main"))


def test_who_has_processors_and_who_shares(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, ONE, parse("0,4"))
    assert give(manager, guaranteed("two", "2")) == "1,5"
    assert give(manager, guaranteed("half", "1500m")) == ""
    assert give(manager, pod("any")) == ""
    assert text_of(manager.shared) == "0,2-4,6-7"
    assert text_of(manager.cpus_of("uid-half", "main")) == "0,2-4,6-7"
    again = CpuManager(tmp_path, ONE, parse("0,4"))
    assert text_of(again.exclusive("uid-two", "main")) == "1,5"
    assert again.keep_only({"uid-half"})
    assert text_of(again.shared) == "0-7"


def test_affinity_and_options(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, TWO, parse("0,8"), frozenset({CpuOption.FULL_CORES, CpuOption.STRICT}))
    assert text_of(manager.shared) == "1-7,9-15"
    assert give(manager, guaranteed("near", "2"), frozenset({1})) == "4,12"
    assert give(manager, guaranteed("far", "8"), frozenset({0})) == "1-3,5,9-11,13"
    for cpu, message in (("1", "requested 1 cpus not multiple"), ("6", "not enough free physical CPUs")):
        with pytest.raises(Exception, match=message) as caught:
            give(manager, guaranteed("odd", cpu))
        assert caught.value.reason == "SMTAlignmentError"  # type: ignore[attr-defined]


def test_hints_of_processors(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, TWO, parse("0,8"))
    main = guaranteed("p", "8")["spec"]["containers"][0]
    assert manager.hints(guaranteed("p", "8"), main) == {"cpu": [B, AB]}
    big = guaranteed("q", "9")
    assert manager.hints(big, big["spec"]["containers"][0]) == {"cpu": [hint(0, 1)]}
    assert manager.hints(pod("r"), container("main")) == {}


def test_init_containers_pass_theirs_on(tmp_path: Path) -> None:
    manager = CpuManager(tmp_path, ONE, parse("0,4"))
    amounts = {"cpu": "2", "memory": "1Gi"}
    resources = {"requests": amounts, "limits": amounts}
    made = guaranteed("p", "2", initContainers=[container("init", resources=resources)])
    assert give(manager, made) == "1,5"
    assert text_of(manager.exclusive("uid-p", "init")) == "1,5"


def test_the_record_is_upstreams(tmp_path: Path) -> None:
    assert checksum("none", "4-6", {}) == 354655845
    assert checksum("none", "1-3", {"pod": {"container1": "4-6", "container2": "1-3"}}) == 3610638499
    document = json.loads(json.dumps(to_checkpoint(parse("0-3"), {"u": {"c": parse("4-5")}})))
    assert from_checkpoint(document) == (parse("0-3"), {"u": {"c": parse("4-5")}})
    for broken in (None, {}, {**document, "defaultCpuSet": "0"}, {**document, "entries": 7}):
        with pytest.raises(CheckpointCorrupt):
            from_checkpoint(broken)


def test_a_record_of_another_machine_is_not_used(tmp_path: Path) -> None:
    CpuManager(tmp_path, TWO, parse("0"))
    with pytest.raises(CpuStateUnfit, match="delete the CPU manager checkpoint file"):
        CpuManager(tmp_path, ONE, parse("0"))
    (tmp_path / "cpu_manager_state").write_text("{")
    with pytest.raises(CpuStateUnfit, match="could not restore state from checkpoint"):
        CpuManager(tmp_path, ONE, parse("0"))


def config_of(tmp_path: Path, text: str) -> KubeletConfig:
    config = KubeletConfig("n", root=tmp_path)
    head = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n"
    apply_file(config, head + text, "config")
    return config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpuManagerPolicy: dynamic", "'dynamic' is not supported; choose one of none, static"),
        ("topologyManagerPolicy: best", "choose one of none, best-effort, restricted, single-numa-node"),
        ("topologyManagerScope: node", "choose one of container, pod"),
        ("topologyManagerPolicyOptions: {prefer-near: 'true'}", "unknown Topology Manager Policy option"),
        ("topologyManagerPolicyOptions: {prefer-closest-numa-nodes: 'yes'}", "'yes' is neither true nor false"),
        ("topologyManagerPolicyOptions: {max-allowable-numa-nodes: '4'}", "should not be less than 8"),
        ("reservedSystemCPUs: some", "reservedSystemCPUs"),
    ],
)
def test_what_the_configuration_cannot_say(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(tmp_path, text)


def test_reserved_processors(tmp_path: Path) -> None:
    assert cpu_manager(config_of(tmp_path, "maxPods: 5"), ONE) is None
    static = "cpuManagerPolicy: static\n"
    with pytest.raises(CannotAssign, match=r"set reservedSystemCPUs, systemReserved\.cpu or kubeReserved\.cpu"):
        cpu_manager(config_of(tmp_path, static), ONE)
    with pytest.raises(CannotAssign, match="no such processors"):
        cpu_manager(config_of(tmp_path, static + "reservedSystemCPUs: 0-99"), ONE)
    numa = Numa({})
    nine = machine(1, 9).nodes
    with pytest.raises(CannotAssign, match="more than 8 NUMA Nodes"):
        topology_rules(config_of(tmp_path, "topologyManagerPolicy: best-effort"), nine, numa)
    options = "topologyManagerPolicy: best-effort\ntopologyManagerPolicyOptions: "
    config = config_of(tmp_path, options + "{max-allowable-numa-nodes: '9'}")
    assert topology_rules(config, nine, numa).nodes == nine
    with pytest.raises(CannotAssign, match="does not say how far nodes are apart"):
        topology_rules(config_of(tmp_path, options + "{prefer-closest-numa-nodes: 'true'}"), [0], numa)
    manager = cpu_manager(config_of(tmp_path, static + "systemReserved: {cpu: 1500m}"), ONE)
    assert manager is not None
    assert text_of(manager.allocatable) == "1-3,5-7"


# Pods.


def cpusets(world: World) -> dict[str, str]:
    """The processors of each container that runs, by the pod's name."""
    return {
        c.status.labels["io.kubernetes.pod.name"]: (c.status.resources or {}).get("cpuset_cpus", "")
        for c in world.runtime._containers.values()
        if c.status.state.value == "running"
    }


def static(config: KubeletConfig) -> None:
    config.cpu_policy = "static"
    config.reserved_cpus = "0"


def test_a_pod_has_its_processors_and_others_make_room(tmp_path: Path) -> None:
    async def scene(world: World) -> None:
        world.add(pod("plain"))
        await world.until(lambda: world.ready("plain"), 5)
        assert cpusets(world) == {"plain": "0-3"}
        world.add(guaranteed("own", "2"))
        await world.until(lambda: world.ready("own"), 5)
        await world.until(lambda: cpusets(world) == {"plain": "0,2", "own": "1,3"}, 5)
        await world.restart()
        await asyncio.sleep(1)
        assert cpusets(world) == {"plain": "0,2", "own": "1,3"}
        world.api.delete_pod("own")
        await world.until(lambda: cpusets(world) == {"plain": "0-3"}, 60)
        world.add(guaranteed("much", "4"))
        await world.until(lambda: world.phase("much") == "Failed", 5)
        assert (
            "not enough cpus available to satisfy request: requested=4, available=3" in world.status("much")["message"]
        )

    play(tmp_path, scene, adjust=static, topology=machine(cores=2))


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="cpu-") as name:
        yield Path(name)


async def lists_what_they_have(socket: Path) -> None:
    """As a monitor of devices asks."""
    caller = Caller(str(socket), podresources())
    try:
        [listed] = (await caller.call("List", 5.0)).pod_resources
        got = (await caller.call("Get", 5.0, pod_name="first", pod_namespace="default")).pod_resources
        assert got == listed
        [main] = listed.containers
        assert (listed.name, main.name, list(main.cpu_ids)) == ("first", "main", [2, 3])
        [device] = main.devices
        assert (device.resource_name, list(device.device_ids), device.topology.nodes[0].ID) == (GPU, ["g1"], 1)
        whole = await caller.call("GetAllocatableResources", 5.0)
        assert list(whole.cpu_ids) == [1, 2, 3]
        assert [device.device_ids[0] for device in whole.devices] == ["g0", "g1"]
        with pytest.raises(GrpcError, match="pod none in namespace default not found"):
            await caller.call("Get", 5.0, pod_name="none", pod_namespace="default")
    finally:
        await caller.close()


def test_processors_and_a_device_of_one_node(folder: Path) -> None:
    def single(config: KubeletConfig) -> None:
        static(config)
        config.topology_policy = "single-numa-node"

    async def scene(world: World) -> None:
        plugin = Plugin(GPU, ["g0", "g1"])
        plugin.nodes = {"g0": 0, "g1": 1}
        async with plugged(plugin, folder / "kubelet" / "device-plugins"):
            node = world.api.objects["/api/v1/nodes/node-1"]["metadata"]["name"]
            path = f"/api/v1/nodes/{node}"
            await world.until(lambda: world.api.objects[path]["status"]["allocatable"].get(GPU) == "2", 20)
            world.add(guaranteed("first", "2", device=1))
            await world.until(lambda: world.ready("first"), 20)
            assert (plugin.allocated, cpusets(world)["first"]) == ([["g1"]], "2-3")  # node 0 has one processor less
            await lists_what_they_have(folder / "kubelet" / "pod-resources" / "kubelet.sock")
            world.add(guaranteed("second", "2", device=1))
            await world.until(lambda: world.phase("second") == "Failed", 20)
            status = world.status("second")
            assert status["reason"] == "TopologyAffinityError"
            assert status["message"] == "Pod was rejected: Resources cannot be allocated with Topology locality"

    play_in_real_time(folder, scene, adjust=single, topology=machine(2, 2, cores=2, threads=1))
