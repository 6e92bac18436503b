"""Memory on NUMA nodes of a container's own: where it can be had, what is recorded, and pods that have it."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.test_cpus import config_of, machine
from tests.kubelet.world import World, container, play, pod
from tiphys.api.object import Object
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configz import describe
from tiphys.kubelet.podresources.server import _memory
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import Hint
from tiphys.kubelet.topology.memory_manager import MemoryManager, MemoryStateUnfit
from tiphys.kubelet.topology.memory_record import checksum, from_checkpoint, to_checkpoint
from tiphys.kubelet.topology.memory_state import Block
from tiphys.kubelet.topology.numa import NodeMemory, Numa, read
from tiphys.kubelet.topology.setup import CannotAssign, memory_manager
from tiphys.runtime.component import ConfigError

GI = 1 << 30
TWO = Numa({0: NodeMemory(10 * GI, {"hugepages-2Mi": GI}), 1: NodeMemory(10 * GI, {"hugepages-2Mi": GI})})
SYSTEM = {0: {"memory": GI}, 1: {"memory": GI}}
"""Eight GiB are left on each node."""
ANY = Hint(None, preferred=False)


def hint(*nodes: int, preferred: bool = True) -> Hint:
    return Hint(frozenset(nodes), preferred)


def sized(name: str, memory: int, pages: int = 0, **more: Any) -> Object:
    """A container that asks for so many GiB."""
    amounts = {"cpu": "1", "memory": f"{memory}Gi"} | ({"hugepages-2Mi": f"{pages}Gi"} if pages else {})
    return container(name, resources={"requests": amounts, "limits": amounts}, **more)


def manager(folder: Path, numa: Numa = TWO) -> MemoryManager:
    return MemoryManager(folder, numa, dict.fromkeys(numa.nodes, SYSTEM[0]))


def give(memory: MemoryManager, wanted: Object, affinity: Hint = ANY) -> list[Block]:
    """All containers of a pod; returns what the last one has."""
    blocks = []
    for one in (*(wanted["spec"].get("initContainers") or []), *wanted["spec"]["containers"]):
        memory.allocate(wanted, one, affinity)
        blocks = memory.blocks_of(wanted["metadata"]["uid"], one["name"])
    return blocks


def test_hints_of_memory(tmp_path: Path) -> None:
    memory = manager(tmp_path)
    small, large = pod("small", sized("c", 2)), pod("large", sized("c", 9))
    assert memory.hints(small, small["spec"]["containers"][0]) == {
        "memory": [hint(0), hint(1), hint(0, 1, preferred=False)]
    }
    assert memory.hints(large, large["spec"]["containers"][0]) == {"memory": [hint(0, 1)]}
    too_much = pod("much", sized("c", 17))
    assert memory.hints(too_much, too_much["spec"]["containers"][0]) == {}
    assert memory.hints(pod("plain"), container("main")) == {}


def test_a_node_is_used_alone_or_in_one_group(tmp_path: Path) -> None:
    memory = manager(tmp_path)
    assert give(memory, pod("one", sized("c", 2))) == [Block((0,), "memory", 2 * GI)]
    wide = pod("wide", sized("c", 9))
    assert memory.hints(wide, wide["spec"]["containers"][0]) == {}
    with pytest.raises(AssignmentFailure, match="no NUMA nodes with enough memory is available"):
        give(memory, wide)
    with pytest.raises(AssignmentFailure, match="preferred hint violates NUMA node allocation"):
        give(memory, pod("small", sized("c", 1)), hint(0, 1))
    memory.keep_only({"uid-wide"})
    assert give(memory, wide) == [Block((0, 1), "memory", 9 * GI)]
    small = pod("small", sized("c", 1))
    assert memory.hints(small, small["spec"]["containers"][0]) == {"memory": [hint(0, 1, preferred=False)]}
    with pytest.raises(AssignmentFailure, match="failed to find the default preferred hint"):
        give(memory, small, Hint(None, preferred=True))


def test_an_affinity_that_is_too_narrow_is_widened(tmp_path: Path) -> None:
    memory = manager(tmp_path)
    assert give(memory, pod("wide", sized("c", 9)), hint(1, preferred=False)) == [Block((0, 1), "memory", 9 * GI)]
    memory = manager(tmp_path / "other")
    assert give(memory, pod("there", sized("c", 3, pages=1)), hint(1)) == [
        Block((1,), "hugepages-2Mi", GI),
        Block((1,), "memory", 3 * GI),
    ]
    with pytest.raises(AssignmentFailure, match="failed to find NUMA nodes to extend the current topology hint"):
        give(memory, pod("more", sized("c", 3, pages=1)), hint(1))


def test_containers_after_an_init_container_have_its_memory(tmp_path: Path) -> None:
    memory = manager(tmp_path, Numa({0: NodeMemory(10 * GI)}))
    initial = pod("web", sized("c", 5), initContainers=[sized("s", 2, restartPolicy="Always"), sized("i", 6)])
    assert memory.pod_hints(initial) == {"memory": [hint(0)]}
    assert give(memory, initial) == [Block((0,), "memory", 5 * GI)]
    assert memory.blocks_of("uid-web", "i") == [Block((0,), "memory", GI)]  # what nobody has taken over
    memory.starts(initial, initial["spec"]["containers"][0])
    assert memory.blocks_of("uid-web", "i") == []
    assert give(memory, pod("more", sized("c", 2))) == [Block((0,), "memory", 2 * GI)]
    give(memory, initial)  # a kubelet that starts again takes the pod in again: its init container is over
    assert memory.blocks_of("uid-web", "i") == []


def test_only_guaranteed_pods_have_memory_of_their_own(tmp_path: Path) -> None:
    memory = manager(tmp_path)
    assert give(memory, pod("plain", container("c", resources={"requests": {"memory": "1Gi"}}))) == []
    assert memory.holders() == set()


# The record.


RECORD: dict[str, Any] = {
    "policyName": "static",
    "machineState": {
        "0": {
            "numberOfAssignments": 0,
            "memoryMap": {
                "memory": {"total": 2048, "systemReserved": 512, "allocatable": 1536, "reserved": 512, "free": 1024}
            },
            "cells": [],
        }
    },
    "entries": {"pod": {"container1": [{"numaAffinity": [0], "type": "memory", "size": 512}]}},
}


def test_the_checksum_is_upstreams() -> None:
    assert checksum("static", RECORD["machineState"], RECORD["entries"]) == 4215593881


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    memory = manager(tmp_path)
    give(memory, pod("wide", sized("c", 9, pages=1)))
    document = json.loads((tmp_path / "memory_manager_state").read_text())
    state, assigned = from_checkpoint(document)
    assert to_checkpoint(state, assigned) == document
    again = manager(tmp_path)
    assert again.blocks_of("uid-wide", "c") == memory.blocks_of("uid-wide", "c")
    again.keep_only(set())
    assert manager(tmp_path).holders() == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checksum": 5}, "checkpoint is corrupted"),
        ({"policyName": "None", "checksum": 0}, 'configured policy "Static" differs from state checkpoint policy'),
        ({"machineState": {"0": {}}, "checksum": 0}, "checkpoint is corrupted|another form"),
    ],
)
def test_a_record_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = to_checkpoint(*from_checkpoint({**RECORD, "policyName": "Static", "checksum": 0})) | change
    with pytest.raises(CheckpointCorrupt, match=message):
        from_checkpoint(document)


def test_a_record_of_another_machine_is_not_used(tmp_path: Path) -> None:
    give(manager(tmp_path), pod("web", sized("c", 1)))
    larger = Numa({0: NodeMemory(11 * GI, {"hugepages-2Mi": GI}), 1: TWO.nodes[1]})
    for other in (larger, Numa({0: TWO.nodes[0]}), Numa({0: NodeMemory(10 * GI), 1: NodeMemory(10 * GI)})):
        with pytest.raises(
            MemoryStateUnfit, match="the expected machine state is different from the real one, please drain"
        ):
            manager(tmp_path, other)
    document = json.loads((tmp_path / "memory_manager_state").read_text())
    strange = copy.deepcopy(document)
    strange["entries"]["uid-web"]["c"][0]["numaAffinity"] = [7]
    strange["checksum"] = 0
    (tmp_path / "memory_manager_state").write_text(json.dumps(strange))
    with pytest.raises(MemoryStateUnfit, match="the memory assignment uses the NUMA that does not exist"):
        manager(tmp_path)


# The machine and the configuration.


def test_this_machine_is_read() -> None:
    """As the kernel counts it by node: where memory comes and goes, /proc/meminfo may count otherwise."""
    told = subprocess.run("cat /sys/devices/system/node/node*/meminfo", shell=True, capture_output=True, text=True)
    totals = [int(line.split()[3]) * 1024 for line in told.stdout.splitlines() if " MemTotal:" in line]
    assert sum(node.memory for node in read().nodes.values()) == pytest.approx(sum(totals), rel=0.02)


def test_a_machine_of_two_nodes_is_read(tmp_path: Path) -> None:
    for number in (0, 1):
        folder = tmp_path / f"node{number}"
        (folder / "hugepages" / "hugepages-2048kB").mkdir(parents=True)
        (folder / "hugepages" / "hugepages-2048kB" / "nr_hugepages").write_text("512\n")
        (folder / "meminfo").write_text(f"Node {number} MemTotal:       10485760 kB\nNode {number} MemFree: 5 kB\n")
        (folder / "distance").write_text("10 20\n" if number == 0 else "20 10\n")
    assert read(tmp_path) == Numa(TWO.nodes, {0: (10, 20), 1: (20, 10)})
    whole = tmp_path / "meminfo"
    whole.write_text("MemTotal: 1024 kB\n")
    assert read(tmp_path / "none", whole).nodes[0].memory == 1 << 20


STATIC = "memoryManagerPolicy: Static\nevictionHard: {memory.available: 100Mi}\nsystemReserved: {memory: 412Mi}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'amount "0" of type "memory" is not equal to the value "1Gi" determined by Node Allocatable'),
        ("kubeReserved: {memory: 512Mi}\n", 'value "1Gi"'),
        ("reservedMemory: [{numaNode: 7, limits: {memory: 1Gi}}]", "NUMA node 7 that does not exist on this machine"),
        ("reservedMemory: [{numaNode: 0, limits: {memory: 1Ti}}]", "NUMA node 0 has no 1Ti of memory"),
    ],
)
def test_reserved_memory_must_fit(tmp_path: Path, text: str, message: str) -> None:
    config = config_of(tmp_path, STATIC.replace("412Mi", "924Mi" if "kube" not in text else "412Mi") + text)
    with pytest.raises(CannotAssign, match=message):
        memory_manager(config, TWO, 20 * GI)


def test_memory_for_the_system_is_wanted(tmp_path: Path) -> None:
    config = config_of(tmp_path, "memoryManagerPolicy: Static\nevictionHard: {memory.available: '0'}\n")
    with pytest.raises(CannotAssign, match="you should specify the system reserved memory; set reservedMemory"):
        memory_manager(config, TWO, 20 * GI)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{numaNode: 0, limits: {cpu: 1}}]", 'the limit type "cpu" for NUMA node 0 is not supported'),
        ("[{numaNode: 0, limits: {memory: 0}}]", 'may not be zero for NUMA node 0 and resource "memory"'),
        (
            "[{numaNode: 0, limits: {memory: 1Gi}}, {numaNode: 0, limits: {memory: 1Gi}}]",
            'has a duplicate value for NUMA node 0 and resource "memory"',
        ),
    ],
)
def test_reserved_memory_that_makes_no_sense(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(tmp_path, f"reservedMemory: {text}")


def test_the_configuration_is_shown(tmp_path: Path) -> None:
    text = "topologyManagerScope: pod\nreservedMemory: [{numaNode: 0, limits: {memory: 512Mi}}]\n"
    shown = describe(config_of(tmp_path, STATIC + "kubeReserved: {cpu: 1}\n" + text))
    assert (shown["memoryManagerPolicy"], shown["topologyManagerScope"]) == ("Static", "pod")
    assert shown["reservedMemory"] == [{"numaNode": 0, "limits": {"memory": "512Mi"}}]
    assert (shown["systemReserved"], shown["kubeReserved"]) == ({"memory": "412Mi"}, {"cpu": "1"})


def test_what_is_reserved_adds_up() -> None:
    config = KubeletConfig(
        "n", system_reserved={"cpu": "500m", "memory": "1Gi"}, kube_reserved={"cpu": "1", "pid": "5"}
    )
    assert config.reserved == {"cpu": "1500m", "memory": "1Gi", "pid": "5"}


# Pods.


def single_node_for_pods(config: KubeletConfig) -> None:
    config.memory_policy, config.cpu_policy, config.reserved_cpus = "Static", "static", "0"
    config.topology_policy, config.topology_scope = "single-numa-node", "pod"
    config.eviction_hard = {}
    config.system_reserved = {"memory": "2Gi"}
    config.reserved_memory = ((0, {"memory": "1Gi"}), (1, {"memory": "1Gi"}))


def places(world: World) -> dict[str, tuple[str, str]]:
    """Nodes of the memory and processors of each container that runs, by its name."""
    return {
        c.status.name: (
            (c.status.resources or {}).get("cpuset_mems", ""),
            (c.status.resources or {}).get("cpuset_cpus", ""),
        )
        for c in world.runtime._containers.values()
        if c.status.state.value == "running"
    }


def test_all_of_a_pod_is_on_one_node(tmp_path: Path) -> None:
    def small(name: str, memory: str) -> Object:
        amounts = {"cpu": "1", "memory": memory}
        return container(name, resources={"requests": amounts, "limits": amounts})

    async def scene(world: World) -> None:
        world.add(pod("plain", container("free")))
        world.add(pod("first", small("a", "1Gi"), small("b", "2Gi")))
        await world.until(lambda: world.ready("first") and world.ready("plain"), 5)
        assert places(world) == {"a": ("1", "2"), "b": ("1", "3"), "free": ("", "0-1")}
        world.add(pod("second", small("c", "1Gi"), small("d", "1Gi")))
        await world.until(lambda: world.phase("second") == "Failed", 5)  # one processor is left on each node
        assert world.status("second")["reason"] == "TopologyAffinityError"
        assert world.kubelet.memory is not None
        assert _memory(world.kubelet.memory.blocks_of("uid-first", "b")) == [
            {"memory_type": "memory", "size": 2 * GI, "topology": {"nodes": [{"ID": 1}]}}
        ]
        await world.restart()
        assert places(world)["b"] == ("1", "3")
        world.api.delete_pod("first")
        await world.until(lambda: not world.api.has_pod("first"), 60)
        world.add(pod("third", small("c", "3Gi")))
        await world.until(lambda: world.ready("third"), 5)
        assert places(world)["c"] == ("0", "1")

    numa = Numa({node: NodeMemory(4 * GI) for node in (0, 1)})
    topology = machine(2, 2, cores=2, threads=1)
    play(tmp_path, scene, adjust=single_node_for_pods, topology=topology, numa_nodes=numa)
