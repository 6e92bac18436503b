"""The driver's calls over a cloud in memory and EC2 as moto answers, and its node service on a real loop device."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.simulated import SimulatedCloud
from tests.contract.test_cloud import ec2, endpoint, keys  # noqa: F401 - fixtures
from tiphys.addons.csicloud.controller import DEVICES, NAME, ZONE_KEY, CloudController, node_of
from tiphys.addons.csicloud.node import CloudNode
from tiphys.cloud.provider import Volumes
from tiphys.csi.connection import InProcess, read_facts
from tiphys.csi.identity import IdentityService
from tiphys.csi.local.command import has_loops
from tiphys.runtime.clock import SystemClock
from tiphys.wire.grpc.stream import GrpcError

Call = Callable[..., Awaitable[Any]]
MOUNTED = {"mount": {"fs_type": "ext4"}, "access_mode": {"mode": 1}}
BLOCK = {"block": {}, "access_mode": {"mode": 1}}
GIB = 1 << 30


def calls(volumes: Volumes) -> Call:
    services = (IdentityService(NAME, has_zones=volumes.has_zones), CloudController(volumes))
    connection = InProcess(services)
    return lambda method, **fields: connection.call(method, 10.0, **fields)


async def a_volumes_life(call: Call, first: str, second: str, zone: str) -> None:
    """Made, attached here and not there, grown, snapshotted, copied, moved, removed."""
    wanted = {
        "name": "pvc-1",
        "volume_capabilities": [MOUNTED],
        "capacity_range": {"required_bytes": GIB},
        "accessibility_requirements": {"preferred": [{"segments": {ZONE_KEY: zone}}]},
    }
    volume = (await call("CreateVolume", **wanted)).volume
    assert (await call("CreateVolume", **wanted)).volume.volume_id == volume.volume_id
    assert [dict(each.segments) for each in volume.accessible_topology] == [{ZONE_KEY: zone}]
    about = {"volume_id": volume.volume_id, "volume_capability": MOUNTED}
    context = (await call("ControllerPublishVolume", **about, node_id=first)).publish_context
    assert context[DEVICES].startswith("/dev/")
    assert await refusal(call("ControllerPublishVolume", **about, node_id=second)) == "FAILED_PRECONDITION"
    assert await refusal(call("DeleteVolume", volume_id=volume.volume_id)) == "FAILED_PRECONDITION"

    grown = await call("ControllerExpandVolume", volume_id=volume.volume_id, capacity_range={"required_bytes": 2 * GIB})
    assert grown.capacity_bytes >= 2 * GIB
    assert grown.node_expansion_required
    taken = (await call("CreateSnapshot", name="s", source_volume_id=volume.volume_id)).snapshot
    assert (taken.source_volume_id, taken.ready_to_use) == (volume.volume_id, True)
    source = {"snapshot": {"snapshot_id": taken.snapshot_id}}
    copy = (await call("CreateVolume", **{**wanted, "name": "pvc-2"}, volume_content_source=source)).volume
    assert copy.content_source.snapshot.snapshot_id == taken.snapshot_id

    for _ in range(2):
        await call("ControllerUnpublishVolume", volume_id=volume.volume_id, node_id=first)
    await call("ControllerPublishVolume", **about, node_id=second)
    await call("ControllerUnpublishVolume", volume_id=volume.volume_id, node_id=second)
    for identity in (volume.volume_id, copy.volume_id, volume.volume_id):
        await call("DeleteVolume", volume_id=identity)
    for _ in range(2):
        await call("DeleteSnapshot", snapshot_id=taken.snapshot_id)
    assert await refusal(call("ControllerPublishVolume", **about, node_id=first)) == "NOT_FOUND"
    again = {**wanted, "name": "pvc-3", "volume_content_source": source}
    assert await refusal(call("CreateVolume", **again)) == "NOT_FOUND"


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(GrpcError) as raised:
        await call
    return raised.value.code.name


def test_a_volumes_life_in_a_cloud_in_memory() -> None:
    cloud = SimulatedCloud()
    for number, name in enumerate(("one", "two"), 1):
        cloud.add_machine(name, number)
    asyncio.run(a_volumes_life(calls(cloud.volumes), "one", "two", "zone-1"))
    assert cloud.disks == {}


def test_a_volumes_life_on_ebs(endpoint: str, tmp_path: Path) -> None:  # noqa: F811
    async def scene() -> None:
        async with ec2(endpoint, tmp_path) as made:
            assert made.cloud.volumes is not None
            assert made.cloud.instances is not None
            first, second = [(await made.known(name))["spec"]["providerID"] for name in made.names]
            place = await made.cloud.instances.metadata(made.node("", first))
            assert place is not None
            await a_volumes_life(calls(made.cloud.volumes), first, second, place.zone)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "INVALID_ARGUMENT"),
        ({"volume_capabilities": []}, "INVALID_ARGUMENT"),
        ({"volume_capabilities": [{**MOUNTED, "access_mode": {"mode": 5}}]}, "INVALID_ARGUMENT"),
        ({"volume_capabilities": [{**MOUNTED, "mount": {"fs_type": "xfs"}}]}, "INVALID_ARGUMENT"),
        ({"parameters": {"nonsense": "1"}}, "INVALID_ARGUMENT"),
        ({"volume_content_source": {"volume": {"volume_id": "v"}}}, "INVALID_ARGUMENT"),
        ({"volume_content_source": {"snapshot": {"snapshot_id": "s"}}}, "NOT_FOUND"),
        ({"capacity_range": {"required_bytes": GIB, "limit_bytes": GIB - 1}}, "OUT_OF_RANGE"),
    ],
)
def test_what_cannot_be_made_is_refused(fields: dict[str, Any], code: str) -> None:
    cloud = SimulatedCloud()
    wanted = {"name": "v", "volume_capabilities": [MOUNTED], **fields}
    assert asyncio.run(refusal(calls(cloud.volumes)("CreateVolume", **wanted))) == code
    assert cloud.disks == {}


def test_a_node_id_is_a_provider_id_or_a_name() -> None:
    assert node_of("n1")["metadata"]["name"] == "n1"
    assert node_of("n1")["spec"] == {}
    assert node_of("aws:///z/i-1")["spec"] == {"providerID": "aws:///z/i-1"}


def test_zones_are_a_capability_of_clouds_that_have_them() -> None:
    for has_zones in (True, False):
        cloud = SimulatedCloud()
        services = (IdentityService(NAME, has_zones=has_zones), CloudController(cloud.volumes))
        facts = asyncio.run(read_facts(InProcess(services), SystemClock()))
        assert facts.has_topology is has_zones
        assert "PUBLISH_UNPUBLISH_VOLUME" in facts.controller


# On a node


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    if not has_loops():
        pytest.skip("no loop devices, or no mkfs.ext4, here")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=False, capture_output=True)


def node_calls() -> Call:
    connection = InProcess((IdentityService(NAME), CloudNode("n1", "z1")))
    return lambda method, **fields: connection.call(method, 10.0, **fields)


@pytest.mark.root
def test_a_disk_is_formatted_once_mounted_bound_and_found_with_its_data(device: str, tmp_path: Path) -> None:
    staging, target = tmp_path / "globalmount", tmp_path / "pod" / "mount"
    staging.mkdir()
    target.parent.mkdir()

    async def scene() -> None:
        call = node_calls()
        about = {"volume_id": "v", "volume_capability": MOUNTED, "publish_context": {DEVICES: f"/dev/nothing,{device}"}}
        places = {"staging_target_path": str(staging), "target_path": str(target)}
        assert await refusal(call("NodePublishVolume", **about, **places)) == "FAILED_PRECONDITION"
        for text in ("", "kept"):
            for _ in range(2):
                await call("NodeStageVolume", **about, staging_target_path=str(staging))
                await call("NodePublishVolume", **about, **places)
            if text:
                assert (target / "file").read_text() == text
            (target / "file").write_text("kept")
            stats = await call("NodeGetVolumeStats", volume_id="v", volume_path=str(target))
            assert 0 < stats.usage[0].total <= 64 << 20
            for _ in range(2):
                await call("NodeUnpublishVolume", volume_id="v", target_path=str(target))
                await call("NodeUnstageVolume", volume_id="v", staging_target_path=str(staging))
        assert not target.exists()

    asyncio.run(scene())


@pytest.mark.root
def test_what_is_on_a_disk_already_is_left_as_it_is(device: str, tmp_path: Path) -> None:
    subprocess.run(["mkswap", device], check=True, capture_output=True)
    about = {"volume_id": "v", "volume_capability": MOUNTED, "publish_context": {DEVICES: device}}

    async def scene() -> None:
        with pytest.raises(GrpcError, match="holds swap, which is left as it is"):
            await node_calls()("NodeStageVolume", **about, staging_target_path=str(tmp_path))

    asyncio.run(scene())


@pytest.mark.root
def test_a_block_volume_is_the_device_itself(device: str, tmp_path: Path) -> None:
    target = tmp_path / "pod" / "dev"
    target.parent.mkdir()
    about = {"volume_id": "v", "volume_capability": BLOCK, "publish_context": {DEVICES: device}}

    async def scene() -> None:
        call = node_calls()
        await call("NodeStageVolume", **about, staging_target_path=str(tmp_path))
        await call("NodePublishVolume", **about, staging_target_path=str(tmp_path), target_path=str(target))
        assert target.is_block_device()
        stats = await call("NodeGetVolumeStats", volume_id="v", volume_path=str(target))
        assert stats.usage[0].total == 64 << 20
        await call("NodeUnpublishVolume", volume_id="v", target_path=str(target))
        assert not target.exists()
        assert await refusal(call("NodeStageVolume", **{**about, "publish_context": {"a": "b"}},
                                  staging_target_path=str(tmp_path))) == "FAILED_PRECONDITION"  # fmt: skip

    asyncio.run(scene())
