"""The driver of the node's disk over its real socket: volumes with a limit, grown, copied, and removed."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.machine import wait_for
from tiphys.api.csi.capabilities import capability
from tiphys.api.csi.messages import csi
from tiphys.csi.identity import IdentityService
from tiphys.csi.local.command import has_loops
from tiphys.csi.local.controller import ControllerService
from tiphys.csi.local.driver import NAME, Shop
from tiphys.csi.local.node import NodeService
from tiphys.csi.provisioner import topology
from tiphys.csi.served import served
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.files import VolumeStore
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability
from tiphys.wire.grpc.caller import Caller
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

MIB = 1 << 20
needs_loops = pytest.mark.skipif(os.geteuid() != 0 or not has_loops(), reason="needs root and loop devices")
Call = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="csi-") as name:
        yield Path(name)


@asynccontextmanager
async def driver(folder: Path, *, loops: bool = True) -> AsyncIterator[Call]:
    shop = Shop(VolumeStore(folder / "volumes"), "node-1", loops=loops)
    services = (IdentityService(NAME), ControllerService(shop, SystemClock()), NodeService(shop))
    kubelet = folder / "kubelet"
    async with served(services, kubelet, NAME):
        caller = Caller(str(kubelet / "plugins" / "local.tiphys" / "csi.sock"), csi())
        try:
            yield lambda method, **fields: caller.call(method, 30.0, **fields)
        finally:
            await caller.close()


def wanted(name: str = "pvc-1", size: int = 32 * MIB, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "capacity_range": {"required_bytes": size},
        "volume_capabilities": [capability("ReadWriteOnce", fs_type="ext4")],
        **more,
    }


async def refused(work: Coroutine[Any, Any, Any]) -> int:
    with pytest.raises(GrpcError) as caught:
        await work
    return int(caught.value.code)


@asynccontextmanager
async def mounted(call: Call, volume: str, folder: Path, **publish: Any) -> AsyncIterator[Path]:
    """A volume as a pod has it."""
    staging, target = folder / f"stage-{volume}", folder / f"pod-{volume}" / "mount"
    staging.mkdir()
    target.parent.mkdir()
    place = {"volume_id": volume, "volume_capability": capability("ReadWriteOnce", fs_type="ext4")}
    await call("NodeStageVolume", staging_target_path=str(staging), **place)
    paths = {"staging_target_path": str(staging), "target_path": str(target)}
    await call("NodePublishVolume", **paths, **place, **publish)
    try:
        yield target
    finally:
        for _ in range(2):  # twice is once
            await call("NodeUnpublishVolume", volume_id=volume, target_path=str(target))
            await call("NodeUnstageVolume", volume_id=volume, staging_target_path=str(staging))
        assert not target.exists()
        image = folder / "volumes" / "volumes" / volume / "image"
        wait_for(lambda: not programs.loop_of(image), 10, "that the kernel lets the loop device go")
        for each in (staging, target.parent):
            each.rmdir()


async def free(call: Call) -> int:
    return int((await call("GetCapacity")).available_capacity)


@needs_loops
def test_a_volume_is_as_large_as_was_asked_and_no_larger(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder) as call:
            before = await free(call)
            made = (await call("CreateVolume", **wanted())).volume
            assert (made.volume_id, made.capacity_bytes) == ("pvc-1", 32 * MIB)
            assert topology.node_affinity(made.accessible_topology) == {
                "required": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "topology.local.tiphys/node", "operator": "In", "values": ["node-1"]}
                            ]
                        }
                    ]
                }
            }
            assert before - await free(call) >= 28 * MIB, "what is promised is not promised again"
            async with mounted(call, "pvc-1", folder) as target:
                (target / "kept").write_text("data")
                with pytest.raises(OSError, match="No space left"):
                    (target / "much").write_bytes(b"x" * 40 * MIB)
                usage = (await call("NodeGetVolumeStats", volume_id="pvc-1", volume_path=str(target))).usage
                assert 24 * MIB < usage[0].total <= 32 * MIB
                assert await refused(call("DeleteVolume", volume_id="pvc-1")) == StatusCode.FAILED_PRECONDITION
            async with mounted(call, "pvc-1", folder, readonly=True) as target:
                assert (target / "kept").read_text() == "data"
                with pytest.raises(OSError, match="Read-only"):
                    (target / "more").touch()
            for _ in range(2):
                await call("DeleteVolume", volume_id="pvc-1")
            assert not list((folder / "volumes" / "volumes").iterdir())

    asyncio.run(scenario())


@needs_loops
@pytest.mark.skipif(not has_capability(CAP_SYS_RESOURCE), reason="needs CAP_SYS_RESOURCE, as mounted ext4 grows by it")
def test_a_volume_grows_while_it_is_used(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder) as call:
            await call("CreateVolume", **wanted())
            async with mounted(call, "pvc-1", folder) as target:
                more = {"required_bytes": 64 * MIB}
                grown = await call("ControllerExpandVolume", volume_id="pvc-1", capacity_range=more)
                assert (grown.capacity_bytes, grown.node_expansion_required) == (64 * MIB, True)
                await call("NodeExpandVolume", volume_id="pvc-1", volume_path=str(target))
                (target / "much").write_bytes(b"x" * 40 * MIB)

    asyncio.run(scenario())


@needs_loops
def test_a_volume_that_nobody_has_grows_when_it_is_mounted(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder) as call:
            await call("CreateVolume", **wanted())
            async with mounted(call, "pvc-1", folder) as target:
                (target / "file").write_text("data")
            await call("ControllerExpandVolume", volume_id="pvc-1", capacity_range={"required_bytes": 96 * MIB})
            async with mounted(call, "pvc-1", folder) as target:
                assert (target / "file").read_text() == "data"
                assert os.statvfs(target).f_blocks * os.statvfs(target).f_frsize > 80 * MIB

    asyncio.run(scenario())


@needs_loops
def test_a_snapshot_holds_what_was_there_then(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder) as call:
            await call("CreateVolume", **wanted())
            async with mounted(call, "pvc-1", folder) as target:
                (target / "file").write_text("then")
                taken = (await call("CreateSnapshot", name="snap-1", source_volume_id="pvc-1")).snapshot
                (target / "file").write_text("now")
                assert (taken.snapshot_id, taken.ready_to_use, taken.size_bytes) == ("snap-1", True, 32 * MIB)
                again = (await call("CreateSnapshot", name="snap-1", source_volume_id="pvc-1")).snapshot
                assert again == taken
            source = {"snapshot": {"snapshot_id": "snap-1"}}
            await call("CreateVolume", **wanted("pvc-2", 48 * MIB, volume_content_source=source))
            async with mounted(call, "pvc-2", folder) as target:
                assert (target / "file").read_text() == "then"
                assert os.statvfs(target).f_blocks * os.statvfs(target).f_frsize > 36 * MIB, "the new volume's own size"
            clone = {"volume": {"volume_id": "pvc-1"}}
            await call("CreateVolume", **wanted("pvc-3", volume_content_source=clone))
            async with mounted(call, "pvc-3", folder) as target:
                assert (target / "file").read_text() == "now"
            listed = await call("ListSnapshots", source_volume_id="pvc-1")
            assert [entry.snapshot.snapshot_id for entry in listed.entries] == ["snap-1"]
            await call("DeleteSnapshot", snapshot_id="snap-1")
            assert not (await call("ListSnapshots")).entries

    asyncio.run(scenario())


@needs_loops
def test_a_block_volume_is_a_device(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder) as call:
            block = capability("ReadWriteOnce", block=True)
            await call("CreateVolume", **wanted(volume_capabilities=[block]))
            staging, target = folder / "stage", folder / "publish" / "uid"
            staging.mkdir()
            target.parent.mkdir()
            place = {"volume_id": "pvc-1", "volume_capability": block, "staging_target_path": str(staging)}
            await call("NodeStageVolume", **place)
            await call("NodePublishVolume", **place, target_path=str(target))
            assert stat.S_ISBLK(target.stat().st_mode)
            target.write_bytes(b"raw")
            await call("NodeUnpublishVolume", volume_id="pvc-1", target_path=str(target))
            await call("NodeUnstageVolume", volume_id="pvc-1", staging_target_path=str(staging))
            image = folder / "volumes" / "volumes" / "pvc-1" / "image"
            assert not programs.loop_of(image)
            assert image.read_bytes().startswith(b"raw")

    asyncio.run(scenario())


def test_without_loop_devices_a_volume_is_a_folder(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder, loops=False) as call:
            await call("CreateVolume", **wanted())
            (folder / "volumes" / "volumes" / "pvc-1" / "data" / "file").write_text("data")
            await call("CreateSnapshot", name="snap-1", source_volume_id="pvc-1")
            source = {"snapshot": {"snapshot_id": "snap-1"}}
            await call("CreateVolume", **wanted("pvc-2", volume_content_source=source))
            assert (folder / "volumes" / "volumes" / "pvc-2" / "data" / "file").read_text() == "data"
            block = [capability("ReadWriteOnce", block=True)]
            assert await refused(call("CreateVolume", **wanted("pvc-3", volume_capabilities=block))) == 3

    asyncio.run(scenario())


ELSEWHERE = {"requisite": [{"segments": {"topology.local.tiphys/node": "node-2"}}]}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": ""}, StatusCode.INVALID_ARGUMENT),
        ({"name": "../../etc"}, StatusCode.NOT_FOUND),
        ({"volume_capabilities": []}, StatusCode.INVALID_ARGUMENT),
        ({"volume_capabilities": [capability("ReadWriteMany")]}, StatusCode.INVALID_ARGUMENT),
        ({"volume_capabilities": [capability("ReadWriteOnce", fs_type="ntfs")]}, StatusCode.INVALID_ARGUMENT),
        ({"parameters": {"colour": "red"}}, StatusCode.INVALID_ARGUMENT),
        ({"parameters": {"format": "tape"}}, StatusCode.INVALID_ARGUMENT),
        ({"capacity_range": {"required_bytes": 1, "limit_bytes": MIB}}, StatusCode.OUT_OF_RANGE),
        ({"accessibility_requirements": ELSEWHERE}, StatusCode.RESOURCE_EXHAUSTED),
        ({"volume_content_source": {"volume": {"volume_id": "none"}}}, StatusCode.NOT_FOUND),
    ],
)
def test_what_cannot_be_made_is_refused(change: dict[str, Any], code: StatusCode, folder: Path) -> None:
    async def scenario() -> int:
        async with driver(folder, loops=False) as call:
            return await refused(call("CreateVolume", **(wanted() | change)))

    assert asyncio.run(scenario()) == code


def test_a_volume_that_is_there_is_what_was_asked_or_refused(folder: Path) -> None:
    async def scenario() -> None:
        async with driver(folder, loops=False) as call:
            first = await call("CreateVolume", **wanted())
            assert await call("CreateVolume", **wanted()) == first
            assert await refused(call("CreateVolume", **wanted(size=64 * MIB))) == StatusCode.ALREADY_EXISTS

    asyncio.run(scenario())
