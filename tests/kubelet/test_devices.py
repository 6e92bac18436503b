"""Device plugins: registered over their socket, their devices on the node and in containers, kept over restarts."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.deviceplugin import Plugin, message, plugged
from tests.kubelet.world import World, container, play_in_real_time, pod
from tiphys.api.object import Object
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.devices import ledger
from tiphys.kubelet.devices.choice import by_affinity, take
from tiphys.kubelet.devices.ledger import Allocation, Device, DeviceLedger
from tiphys.wire.grpc.stream import GrpcError

GPU = "example.com/gpu"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="dev-") as name:
        yield Path(name)


def sockets(world: World) -> Path:
    return world.folder / "kubelet" / "device-plugins"


def with_devices(name: str, amount: int, resource: str = GPU, *command: str, **more: Any) -> Object:
    amounts = {resource: str(amount)}
    return container(name, *command, resources={"limits": amounts, "requests": amounts}, **more)


def amounts(world: World, resource: str = GPU) -> tuple[str | None, str | None]:
    status = world.api.objects["/api/v1/nodes/node-1"]["status"]
    return status["capacity"].get(resource), status["allocatable"].get(resource)


def configs(world: World, name: str) -> list[Object]:
    """The configurations of a container's runs."""
    return [r.config for r in world.runtime._containers.values() if r.config["metadata"]["name"] == name]


async def until_offered(world: World, *wanted: str, resource: str = GPU) -> None:
    await world.until(lambda: amounts(world, resource) == wanted, 20)


def test_a_container_gets_what_its_device_needs(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1", "g2"], pre_start=True), sockets(world)) as plugin:
            plugin.cdi = True
            await until_offered(world, "2", "2")
            world.add(pod("one", with_devices("main", 1, env=[{"name": "OWN", "value": "$(DEVICES)"}])))
            await world.until(lambda: world.ready("one"), 10)
            [config] = configs(world, "main")
            variables = {e["key"]: e["value"].decode() for e in config["envs"]}
            assert variables["DEVICES"] == "g1"
            assert {"container_path": "/dev/g1", "host_path": "/dev/zero", "permissions": "rw"} in config["devices"]
            assert any(m["container_path"] == "/lib/device" and m["readonly"] for m in config["mounts"])
            assert config["annotations"]["example.com/devices"] == "g1"
            assert config["CDI_devices"] == [{"name": f"{GPU}=g1"}]
            assert (plugin.allocated, plugin.started) == ([["g1"]], [["g1"]])

    play_in_real_time(folder, scene)


def test_devices_that_are_taken_are_given_to_nobody_else(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1", "g2"]), sockets(world)) as plugin:
            await until_offered(world, "2", "2")
            world.add(pod("one", with_devices("first", 1)))
            world.add(pod("two", with_devices("second", 1)))
            await world.until(lambda: world.ready("one") and world.ready("two"), 10)
            assert sorted(plugin.allocated) == [["g1"], ["g2"]]
            world.add(pod("three", with_devices("third", 1)))
            await world.until(lambda: world.phase("three") == "Failed", 10)
            status = world.status("three")
            assert status["reason"] == "UnexpectedAdmissionError"
            assert status["message"] == (
                "Pod was rejected: Allocate failed due to requested number of devices unavailable for "
                f"{GPU}. Requested: 1, Available: 0, which is unexpected"
            )
            world.api.delete_pod("one", 0)
            await world.until(lambda: "uid-one" not in world.kubelet.devices.holders(), 40)
            world.add(pod("four", with_devices("fourth", 1)))
            await world.until(lambda: world.ready("four"), 10)
            assert plugin.allocated[-1] == plugin.allocated[0]

    play_in_real_time(folder, scene)


def test_a_slow_plugin_holds_up_its_own_pods_alone(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with AsyncExitStack() as stack:
            slow = await stack.enter_async_context(plugged(Plugin(GPU, ["g1", "g2"]), sockets(world)))
            other = "example.com/nic"
            await stack.enter_async_context(plugged(Plugin(other, ["n1"]), sockets(world)))
            await until_offered(world, "2", "2")
            await until_offered(world, "1", "1", resource=other)
            slow.gate.clear()
            world.add(pod("waits", with_devices("main", 1)))
            world.add(pod("also-waits", with_devices("main", 2)))
            world.add(pod("runs", with_devices("main", 1, other)))
            world.add(pod("plain"))
            await world.until(lambda: world.ready("runs") and world.ready("plain"), 10)
            await world.until(lambda: world.phase("also-waits") == "Failed", 10)  # one is reserved already
            assert world.phase("waits") == "Pending"
            world.api.delete_pod("waits", 0)
            slow.gate.set()
            await world.until(lambda: not world.kubelet._intake.deciding(), 10)
            assert world.kubelet.workers.phase("uid-waits") is None

    play_in_real_time(folder, scene)


def test_a_restarted_kubelet_knows_who_has_what(folder: Path) -> None:
    async def scene(world: World) -> None:
        plugin = Plugin(GPU, ["g1", "g2"])
        async with plugged(plugin, sockets(world)):
            await until_offered(world, "2", "2")
            world.add(pod("keeps", with_devices("main", 1)))
            await world.until(lambda: world.ready("keeps"), 10)
        await until_offered(world, "2", "0")
        await world.restart()
        await until_offered(world, "0", "0")  # until the plugin comes again
        assert world.phase("keeps") == "Running"
        world.add(pod("early", with_devices("main", 1)))
        await world.until(lambda: world.phase("early") == "Failed", 10)
        assert "no healthy devices present; cannot allocate unhealthy devices" in world.status("early")["message"]
        assert not (sockets(world) / plugin.socket).exists(), "a plugin sees by this that it is to register again"
        async with plugged(plugin, sockets(world)):
            await until_offered(world, "2", "2")
            world.add(pod("late", with_devices("main", 1)))
            await world.until(lambda: world.ready("late"), 10)
            assert plugin.allocated == [["g1"], ["g2"]]
        assert world.started("main") == 2

    play_in_real_time(folder, scene)


def test_health_is_shown_on_the_node_and_in_the_pod(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1", "g2"]), sockets(world)) as plugin:
            await until_offered(world, "2", "2")
            world.add(pod("one", with_devices("main", 1)))
            await world.until(lambda: world.ready("one"), 10)

            def health() -> list[Object]:
                return list(world.container("one").get("allocatedResourcesStatus") or [])

            assert health() == [{"name": GPU, "resources": [{"resourceID": "g1", "health": "Healthy"}]}]
            await plugin.change(g1="Unhealthy")
            await until_offered(world, "2", "1")
            await world.until(lambda: health()[0]["resources"][0]["health"] == "Unhealthy", 10)

    play_in_real_time(folder, scene)


def test_what_cannot_be_registered_hears_why(folder: Path) -> None:
    async def scene(world: World) -> None:
        plugin = Plugin(GPU, ["g1"])
        await plugin.serve(sockets(world))
        try:
            with pytest.raises(GrpcError, match='requested API version "v7" is not supported by kubelet'):
                await plugin.register(sockets(world), version="v7")
            for name in ("gpu", "kubernetes.io/gpu", "requests.example.com/a", "example.com/b/c"):
                with pytest.raises(GrpcError, match=f'the ResourceName "{name}" is invalid'):
                    await plugin.register(sockets(world), resource=name)
        finally:
            await plugin.close()
        assert amounts(world) == (None, None)

    play_in_real_time(folder, scene)


def test_a_plugin_that_refuses_fails_the_pod_and_keeps_nothing(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1"]), sockets(world)) as plugin:
            await until_offered(world, "1", "1")
            plugin.refuses = "it burns"
            world.add(pod("unlucky", with_devices("main", 1)))
            await world.until(lambda: world.phase("unlucky") == "Failed", 10)
            assert "rpc error: code = Unknown desc = it burns" in world.status("unlucky")["message"]
            plugin.refuses = ""
            world.add(pod("lucky", with_devices("main", 1)))
            await world.until(lambda: world.ready("lucky"), 10)

    play_in_real_time(folder, scene)


def test_a_plugin_that_comes_again_takes_over(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1"]), sockets(world)) as first:
            await until_offered(world, "1", "1")
            second = Plugin(GPU, ["g1", "g2", "g3"])
            async with plugged(second, sockets(world)):
                await until_offered(world, "3", "3")
                await first.close()  # the end of the old one is nothing to the new one
                world.add(pod("one", with_devices("main", 3)))
                await world.until(lambda: world.ready("one"), 10)
                assert second.allocated == [["g1", "g2", "g3"]]

    play_in_real_time(folder, scene)


def test_init_containers_pass_their_devices_on(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1", "g2", "g3"]), sockets(world)) as plugin:
            await until_offered(world, "3", "3")
            first = with_devices("first", 2, GPU, "true")
            sidecar = with_devices("sidecar", 1, restartPolicy="Always")
            world.add(pod("one", with_devices("main", 2), initContainers=[first, sidecar]))
            await world.until(lambda: world.ready("one"), 15)
            assert plugin.allocated == [["g1", "g2"], ["g1"], ["g2", "g3"]]

    play_in_real_time(folder, scene)


def test_the_plugin_says_which_it_prefers(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with plugged(Plugin(GPU, ["g1", "g2", "g3"], prefers=True), sockets(world)) as plugin:
            await until_offered(world, "3", "3")
            plugin.preferred = ["g3", "unknown"]
            world.add(pod("one", with_devices("main", 2)))
            await world.until(lambda: world.ready("one"), 10)
            assert plugin.offered == [(["g1", "g2", "g3"], [], 2)]
            assert plugin.allocated == [["g3", "g1"]]

    play_in_real_time(folder, scene)


def test_what_an_administrator_added_stays_but_is_void_for_a_new_kubelet(folder: Path) -> None:
    async def scene(world: World) -> None:
        node = world.api.objects["/api/v1/nodes/node-1"]
        for name in ("capacity", "allocatable"):
            node["status"][name]["example.com/dongle"] = "4"
        world.api.put("/api/v1/nodes", node)
        await world.kubelet.node.report(force=True)
        assert amounts(world, "example.com/dongle") == ("4", "4")
        await world.restart()
        assert amounts(world, "example.com/dongle") == ("0", "0")  # no checkpoint: another machine of the same name

    play_in_real_time(folder, scene)


# The pure parts.

TWO_NODES = {
    name: Device(name, "Healthy", nodes) for name, nodes in (("a", (0,)), ("b", (1,)), ("c", (0, 1)), ("d", ()))
}


@pytest.mark.parametrize(
    ("affinity", "wanted"),
    [
        (None, ([], [], ["a", "b", "c", "d"])),
        ({0}, (["a", "c"], ["b"], ["d"])),
        ({1}, (["b", "c"], ["a"], ["d"])),
        ({0, 1}, (["a", "c", "b"], [], ["d"])),
        ({2}, ([], ["a", "c", "b"], ["d"])),
    ],
)
def test_near_devices_come_first(affinity: set[int] | None, wanted: tuple[list[str], ...]) -> None:
    assert by_affinity(TWO_NODES, TWO_NODES, affinity) == wanted


def test_without_topology_all_devices_are_alike() -> None:
    plain = {name: Device(name, "Healthy") for name in "ba"}
    assert by_affinity(plain, plain, {0}) == ([], [], ["a", "b"])


def test_taking_keeps_what_is_chosen() -> None:
    assert take(3, ["x"], ["a", "x"], ["b", "c"]) == ["x", "a", "b"]
    assert take(5, [], ["a"]) == ["a"]


def sample() -> DeviceLedger:
    made = DeviceLedger()
    said = message("ContainerAllocateResponse", envs={"A": "b"}, cdi_devices=[{"name": "v/c=d"}])
    made.insert("uid-1", "main", GPU, Allocation({0: ["g1"], 1: ["g1", "g2"], -1: ["g3"]}, said))
    made.insert("uid-2", "side", GPU, Allocation({-1: ["g4"]}, message("ContainerAllocateResponse")))
    return made


def test_the_checkpoint_says_all_again() -> None:
    document = json.loads(json.dumps(ledger.to_checkpoint(sample(), {GPU: {"g1", "g2"}})))
    restored, registered = ledger.from_checkpoint(document)
    assert registered == {GPU}
    assert restored == sample()
    assert [(d.id, d.nodes) for d in restored.of("uid-1", "main")[GPU].devices()] == [
        ("g1", (0, 1)),
        ("g2", (1,)),
        ("g3", ()),
    ]


@pytest.mark.parametrize("broken", [None, [], {}, {"Data": {}}, {"Data": {"PodDeviceEntries": 7}, "Checksum": 1}])
def test_a_broken_checkpoint_is_refused(broken: Any) -> None:
    with pytest.raises(CheckpointCorrupt):
        ledger.from_checkpoint(broken)


def test_a_checkpoint_that_was_changed_is_refused() -> None:
    document = ledger.to_checkpoint(sample(), {})
    document["Data"]["PodDeviceEntries"][0]["PodUID"] = "another"
    with pytest.raises(CheckpointCorrupt, match="corrupted"):
        ledger.from_checkpoint(document)
