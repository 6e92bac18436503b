"""Claims on the node: drivers that register, claims that are prepared once and undone once, CDI, and the record."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubelet.dradriver import NAME, DraDriver
from tests.kubelet.world import World, container, play_in_real_time, pod
from tiphys.api.object import Object
from tiphys.kubelet.checkpoints import CheckpointCorrupt
from tiphys.kubelet.container.cdi import applied, reads_cdi
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.container.runtime_config import DevicePoint, MountPoint
from tiphys.kubelet.dra import claims
from tiphys.kubelet.dra.claims import ClaimInfo, PreparedDevice
from tiphys.kubelet.dra.health import DeviceHealth, HealthBook
from tiphys.kubelet.runtime.service import RuntimeVersion
from tiphys.kubelet.topology.failures import AssignmentFailure

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="dra-") as name:
        yield Path(name)


def add_claim(world: World, name: str, *users: str) -> Object:
    result = {"request": "r", "driver": NAME, "pool": "p", "device": "d"}
    status = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "name": user, "uid": f"uid-{user}"} for user in users],
    }
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return world.api.put(CLAIMS, {"kind": "ResourceClaim", "metadata": meta, "spec": {}, "status": status})


def claiming(name: str, *claims: str, request: str = "") -> Object:
    wanted = [{"name": claim, **({"request": request} if request else {})} for claim in claims]
    entries = [{"name": claim, "resourceClaimName": claim} for claim in claims]
    return pod(name, container("main", resources={"claims": wanted}), container("side"), resourceClaims=entries)


def kubelet_folder(world: World) -> Path:
    return world.folder / "kubelet"


def cdi_names(world: World, container_name: str) -> list[str]:
    runs = [r for r in world.runtime._containers.values() if r.config["metadata"]["name"] == container_name]
    return [entry["name"] for entry in runs[-1].config.get("CDI_devices") or ()]


@pytest.mark.parametrize("service", ["v1.DRAPlugin", "v1beta1.DRAPlugin"])
def test_a_claim_is_prepared_before_and_undone_after(folder: Path, service: str) -> None:
    async def scene(world: World) -> None:
        async with DraDriver(service).served(kubelet_folder(world)) as driver:
            await world.until(lambda: driver.registered == [""], 20)
            add_claim(world, "c", "one")
            world.add(claiming("one", "c", request="r"))
            await world.until(lambda: world.ready("one"), 20)
            assert driver.prepared == ["c"]
            assert cdi_names(world, "main") == [f"{NAME}/claim=uid-c"]
            assert cdi_names(world, "side") == []
            world.api.delete_pod("one")
            await world.until(lambda: not world.api.has_pod("one"), 20)
            assert driver.unprepared == ["c"]

    play_in_real_time(folder, scene)


def test_extended_resources_that_are_devices_of_a_claim(folder: Path) -> None:
    """The scheduler has made a claim for them, and says so in the pod's status (KEP-5004)."""

    async def scene(world: World) -> None:
        async with DraDriver().served(kubelet_folder(world)) as driver:
            await world.until(lambda: driver.registered == [""], 20)
            made = add_claim(world, "one-extended-resources-x", "one")
            owner = {"apiVersion": "v1", "kind": "Pod", "name": "one", "uid": "uid-one", "controller": True}
            made["metadata"]["ownerReferences"] = [owner]
            world.api.put(CLAIMS, made)
            amounts = {"example.com/gpu": "1"}
            asking = pod(
                "one", container("main", resources={"requests": amounts, "limits": amounts}), container("side")
            )
            mapping = {"containerName": "main", "resourceName": "example.com/gpu", "requestName": "r"}
            asking["status"] = {
                "extendedResourceClaimStatus": {
                    "resourceClaimName": "one-extended-resources-x",
                    "requestMappings": [mapping, {**mapping, "containerName": "side", "resourceName": "cpu"}],
                }
            }
            world.add(asking)
            await world.until(lambda: world.ready("one"), 20)
            assert driver.prepared == ["one-extended-resources-x"]
            assert cdi_names(world, "main") == [f"{NAME}/claim=uid-one-extended-resources-x"]
            assert cdi_names(world, "side") == []
            world.api.delete_pod("one")
            await world.until(lambda: not world.api.has_pod("one"), 20)
            assert driver.unprepared == ["one-extended-resources-x"]

    play_in_real_time(folder, scene)


def test_pods_that_share_a_claim(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with DraDriver().served(kubelet_folder(world)) as driver:
            await world.until(lambda: driver.registered == [""], 20)
            add_claim(world, "c", "one", "two")
            world.add(claiming("one", "c"))
            world.add(claiming("two", "c"))
            await world.until(lambda: world.ready("one") and world.ready("two"), 20)
            assert driver.prepared == ["c"]
            world.api.delete_pod("one")
            await world.until(lambda: not world.api.has_pod("one"), 20)
            assert driver.unprepared == []
            await world.restart()
            await world.until(lambda: len(driver.registered) > 1, 20)
            world.api.delete_pod("two")
            await world.until(lambda: not world.api.has_pod("two"), 30)
            assert driver.unprepared == ["c"]

    play_in_real_time(folder, scene)


def test_a_pod_shows_how_the_devices_of_its_claims_fare(folder: Path) -> None:
    async def scene(world: World) -> None:
        def shown() -> Object | None:
            return next(iter(world.container("one").get("allocatedResourcesStatus") or []), None)

        def expect(health: str, message: str = "") -> Object:
            resource = {"resourceID": f"{NAME}/claim=uid-c", "health": health}
            return {"name": "claim:c/r", "resources": [resource | ({"message": message} if message else {})]}

        driver = DraDriver()
        driver.health = []
        async with driver.served(kubelet_folder(world)):
            await world.until(lambda: driver.registered == [""], 20)
            add_claim(world, "c", "one")
            world.add(claiming("one", "c", request="r"))
            await world.until(lambda: world.ready("one"), 20)
            assert shown() == expect("Unknown")
            await driver.say(1)
            await world.until(lambda: shown() == expect("Healthy"), 20)
            await driver.say(2, "x" * 2000)
            await world.until(lambda: shown() == expect("Unhealthy", "x" * 1021 + "..."), 20)
            await driver.say(1, device="another")
            await asyncio.sleep(0.2)
            assert shown() == expect("Unhealthy", "x" * 1021 + "...")
        await world.until(lambda: shown() == expect("Unknown"), 20)

    play_in_real_time(folder, scene)


def test_what_drivers_said_outlives_the_kubelet(folder: Path) -> None:
    def shown(world: World) -> Any:
        [status] = world.container("one").get("allocatedResourcesStatus") or [None]
        return status and [(one["health"], one.get("message")) for one in status["resources"]]

    async def scene(world: World) -> None:
        driver = DraDriver()
        driver.health = []
        async with driver.served(kubelet_folder(world)):
            await world.until(lambda: driver.registered == [""], 20)
            add_claim(world, "c", "one")
            world.add(claiming("one", "c", request="r"))
            await world.until(lambda: world.ready("one"), 20)
            await driver.say(2, "too hot", timeout=600)
            await world.until(lambda: shown(world) == [("Unhealthy", "too hot")], 20)
            document = json.loads((kubelet_folder(world) / "dra_health_state").read_bytes())
            known = document[NAME]["Devices"]["p/d"]
            assert known.pop("LastUpdated").endswith("Z")
            assert known == {
                "PoolName": "p",
                "DeviceName": "d",
                "Health": "Unhealthy",
                "HealthCheckTimeout": 600_000_000_000,
                "Message": "too hot",
            }
            await world.stop()
        world.kubelet = world.new_kubelet()  # and the driver has not come back yet
        await world.start()
        world.add({**world.api.pod("one"), "status": {}})
        await world.until(lambda: shown(world) == [("Unhealthy", "too hot")], 20)

    play_in_real_time(folder, scene)


def test_what_was_said_long_ago_is_not_known_after_a_restart(folder: Path) -> None:
    book, again, place = HealthBook(), HealthBook(), ("p", "d")
    book.note("a", {place: DeviceHealth("Unhealthy", "hot", 10.0)}, 5.0)
    document = json.loads(json.dumps(book.written(lambda heard: heard + 1000)))
    again.take(document, lambda wall: wall - 1008)  # the monotonic clock of another life
    assert again.get("a", place, 6.0) == DeviceHealth("Unhealthy", "hot", 10.0)
    assert again.get("a", place, 8.0) == DeviceHealth()
    document["a"]["Devices"]["p/d"]["HealthCheckTimeout"] = 0  # as earlier kubelets of upstream's wrote it
    again.take(document, lambda wall: wall - 1008)
    assert again.get("a", place, 26.0).health == "Unhealthy"
    broken: Any
    for broken in ([], {"a": {}}, {"a": {"Devices": {"p/d": {}}}}, {"a": {"Devices": {"p/d": 7}}}):
        with pytest.raises(CheckpointCorrupt):
            again.take(broken, lambda wall: wall)


def test_what_is_known_of_a_device_grows_old() -> None:
    book, place = HealthBook(), ("p", "d")
    well, ill = DeviceHealth("Healthy", "", 10.0), DeviceHealth("Unhealthy", "hot", 10.0)
    assert book.note("a", {place: well}, 0.0) == {place}
    assert book.note("a", {place: well}, 5.0) == set()
    assert book.get("a", place, 14.0) == well
    assert book.get("a", place, 16.0).health == "Unknown"
    assert book.note("a", {place: ill}, 17.0) == {place}
    assert book.note("a", {}, 20.0) == set()
    assert book.note("a", {}, 28.0) == {place}
    assert book.get("a", place, 28.0) == DeviceHealth()
    assert book.get("b", place, 0.0) == DeviceHealth()
    book.note("a", {place: ill}, 30.0)
    assert book.clear("a") == {place}


def test_what_keeps_a_pod_from_starting_is_said_and_mended(folder: Path) -> None:
    async def scene(world: World) -> None:
        def events() -> list[str]:
            return [text for reason, text in world.api.events() if reason == "FailedPrepareDynamicResources"]

        start = "Failed to prepare dynamic resources: prepare dynamic resources: "
        add_claim(world, "c")
        world.add(claiming("one", "c"))
        await world.until(lambda: bool(events()), 20)
        assert events()[-1] == f"{start}pod one (uid-one) is not allowed to use ResourceClaim c (uid-c)"
        add_claim(world, "c", "one")
        world.kubelet.workers.poke("uid-one")
        await world.until(lambda: events()[-1] == f"{start}DRA driver {NAME} is not registered", 20)
        driver = DraDriver()
        driver.refuses = "it burns"
        async with driver.served(kubelet_folder(world)):
            await world.until(lambda: driver.registered == [""], 20)
            world.kubelet.workers.poke("uid-one")
            await world.until(
                lambda: events()[-1] == f"{start}NodePrepareResources failed for ResourceClaim c: it burns", 20
            )
            driver.refuses = ""
            world.kubelet.workers.poke("uid-one")
            await world.until(lambda: world.ready("one"), 20)
            world.api.delete_pod("one")
            await world.until(lambda: not world.api.has_pod("one"), 20)

    play_in_real_time(folder, scene)


def test_a_driver_of_an_unknown_version_hears_why(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with DraDriver("v9.DRAPlugin").served(kubelet_folder(world)) as driver:
            await world.until(lambda: bool(driver.registered), 20)
            assert "none of [v9.DRAPlugin] is supported by this kubelet" in driver.registered[0]

    play_in_real_time(folder, scene)


def test_a_claim_of_a_pod_that_was_deleted_by_force_while_no_kubelet_ran(folder: Path) -> None:
    async def scene(world: World) -> None:
        async with DraDriver().served(kubelet_folder(world)) as driver:
            await world.until(lambda: driver.registered == [""], 20)
            add_claim(world, "c", "one")
            world.add(claiming("one", "c"))
            await world.until(lambda: world.ready("one"), 20)
            await world.stop()
            world.api.delete_pod("one", 0)
            world.kubelet = world.new_kubelet()
            await world.start()
            await world.until(lambda: len(driver.registered) > 1, 20)
            await world.kubelet.claims.sweep(world.kubelet._all_known)
            await world.until(lambda: driver.unprepared == ["c"], 20)
            assert not world.kubelet.claims.claims_of("uid-one")

    play_in_real_time(folder, scene)


# The pure parts.


def test_the_record_says_all_again() -> None:
    device = PreparedDevice("p", "d", "share", ("r", "s"), ("v/c=d",))
    infos = [ClaimInfo("u", "c", "default", {"a", "b"}, {"one": [device], "two": []})]
    document = json.loads(json.dumps(claims.to_checkpoint(infos)))
    assert claims.from_checkpoint(document) == infos
    document["Data"] = document["Data"].replace("default", "another")
    with pytest.raises(CheckpointCorrupt, match="corrupted"):
        claims.from_checkpoint(document)


@pytest.mark.parametrize("broken", [None, [], {}, {"Data": "7", "Checksum": 0}, {"Data": 7}])
def test_a_broken_record_is_refused(broken: Any) -> None:
    with pytest.raises(CheckpointCorrupt):
        claims.from_checkpoint(broken)


def test_which_devices_are_for_a_request() -> None:
    devices = [PreparedDevice("p", "d", "", ("r",), ("of-r",)), PreparedDevice("p", "e", "", (), ("of-all",))]
    info = ClaimInfo("u", "c", "default", drivers={"one": devices})
    assert list(info.cdi_of("r")) == ["of-r", "of-all"]
    assert list(info.cdi_of("s")) == ["of-all"]
    assert list(info.cdi_of("")) == ["of-r", "of-all"]


@pytest.mark.parametrize(
    ("name", "version", "reads"),
    [
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "1.7.1", True),
        ("containerd", "v2.0", True),
        ("cri-o", "1", True),
    ],
)
def test_runtimes_that_read_cdi(name: str, version: str, reads: bool) -> None:
    assert reads_cdi(RuntimeVersion(name, version, "v1")) is reads


SPEC = """
cdiVersion: 0.5.0
kind: v.example.com/gpu
containerEdits:
  env: [ALL=yes]
  mounts: [{hostPath: /usr/lib/v, containerPath: /v, options: [ro, bind]}]
devices:
- name: one
  containerEdits: {env: [ONE=1], deviceNodes: [{path: /dev/v1, permissions: rw}]}
- name: hooked
  containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}
"""


def test_cdi_files_say_what_a_device_adds(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(SPEC)
    (tmp_path / "broken.json").write_text("{")
    extras = ContainerExtras(environment={"OWN": "x"})
    extras.add_cdi(["v.example.com/gpu=one"])
    whole = applied(extras, (tmp_path, tmp_path / "missing"))
    assert whole.environment == {"OWN": "x", "ONE": "1", "ALL": "yes"}
    assert list(whole.devices.values()) == [DevicePoint("/dev/v1", "/dev/v1", "rw")]
    assert list(whole.mounts.values()) == [MountPoint("/v", "/usr/lib/v", read_only=True)]
    assert whole.cdi == []
    for name, problem in (
        ("v.example.com/gpu=two", "unresolvable CDI devices"),
        ("v.example.com/gpu=hooked", "hooks need"),
    ):
        with pytest.raises(AssignmentFailure, match=problem):
            applied(ContainerExtras(cdi=[name]), (tmp_path,))


def test_locks_do_not_pile_up(folder: Path) -> None:
    async def scene(world: World) -> None:
        manager = world.kubelet.claims
        for number in range(50):
            async with manager._locked([("default", f"c{number}")]):
                await asyncio.sleep(0)
        assert not manager._locks

    play_in_real_time(folder, scene)
