"""The driver's Node service: the device of a disk that is attached here, formatted if it is blank, mounted, and bound.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#node-service-rpc
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tiphys.addons.csicloud.controller import DEVICES, ZONE_KEY
from tiphys.csi.answers import Busy, answer, capabilities, require
from tiphys.csi.places import bind_at, folder_stats, is_mounted, remove_target, unmount_all
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.programs import ProgramFailure
from tiphys.runtime.system import mounts
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

T = TypeVar("T")
_CAPABILITIES = ("STAGE_UNSTAGE_VOLUME", "EXPAND_VOLUME", "GET_VOLUME_STATS", "SINGLE_NODE_MULTI_WRITER")
_READ_ONLY_MODES = (2, 3)
_LOOKS, _PAUSE = 50, 0.2
"""A device appears some time after the cloud says that it is attached."""


class CloudNode(Busy):
    """``identity`` is what the cloud knows this node by; ``zone`` is empty if it has none."""

    def __init__(self, identity: str, zone: str = "") -> None:
        super().__init__()
        self._identity, self._zone = identity, zone

    async def NodeGetCapabilities(self, _: Any) -> Any:
        return capabilities("NodeGetCapabilitiesResponse", _CAPABILITIES)

    async def NodeGetInfo(self, _: Any) -> Any:
        if not self._zone:
            return answer("NodeGetInfoResponse", node_id=self._identity)
        topology = {"segments": {ZONE_KEY: self._zone}}
        return answer("NodeGetInfoResponse", node_id=self._identity, accessible_topology=topology)

    async def NodeStageVolume(self, request: Any) -> Any:
        require(request, "volume_id", "staging_target_path", "volume_capability", "publish_context")
        async with self.holding(request.volume_id):
            device = await _device(request)
            if request.volume_capability.WhichOneof("access_type") != "block":
                flags = ",".join(request.volume_capability.mount.mount_flags)
                await _work(_stage, device, Path(request.staging_target_path), flags)
        return answer("NodeStageVolumeResponse")

    async def NodePublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "target_path", "staging_target_path", "volume_capability")
        capability = request.volume_capability
        is_block = capability.WhichOneof("access_type") == "block"
        read_only = request.readonly or capability.access_mode.mode in _READ_ONLY_MODES
        async with self.holding(request.volume_id):
            content = await _device(request) if is_block else Path(request.staging_target_path)
            if not is_block and not await _work(is_mounted, content):
                text = f"volume {request.volume_id} is not staged at {content}"
                raise GrpcError(StatusCode.FAILED_PRECONDITION, text)
            target = Path(request.target_path)
            await _work(lambda: bind_at(content, target, is_folder=not is_block, read_only=read_only))
        return answer("NodePublishVolumeResponse")

    async def NodeUnpublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "target_path")
        async with self.holding(request.volume_id):
            await _work(remove_target, Path(request.target_path))
        return answer("NodeUnpublishVolumeResponse")

    async def NodeUnstageVolume(self, request: Any) -> Any:
        require(request, "volume_id", "staging_target_path")
        staging = Path(request.staging_target_path)
        async with self.holding(request.volume_id):
            if staging.parent.is_dir():
                await _work(unmount_all, staging)
        return answer("NodeUnstageVolumeResponse")

    async def NodeExpandVolume(self, request: Any) -> Any:
        require(request, "volume_id", "volume_path")
        async with self.holding(request.volume_id):
            if request.volume_capability.WhichOneof("access_type") != "block":
                await _work(_grow, Path(request.volume_path))
        return answer("NodeExpandVolumeResponse", capacity_bytes=request.capacity_range.required_bytes)

    async def NodeGetVolumeStats(self, request: Any) -> Any:
        require(request, "volume_id", "volume_path")
        size = await _work(_size_of_device, Path(request.volume_path))
        if size is not None:
            return answer("NodeGetVolumeStatsResponse", usage=[{"unit": "BYTES", "total": size}])
        return await folder_stats(request.volume_path)


async def _device(request: Any) -> Path:
    """The device of a volume, once it is here. Raises ``GrpcError``."""
    paths = [Path(text) for text in request.publish_context.get(DEVICES, "").split(",") if text]
    if not paths:
        raise GrpcError(StatusCode.FAILED_PRECONDITION, f"volume {request.volume_id} is not attached to this node")
    for _ in range(_LOOKS):
        for path in paths:
            if path.is_block_device():
                return path
        await asyncio.sleep(_PAUSE)
    text = f"no device has appeared for volume {request.volume_id}: {', '.join(map(str, paths))}"
    raise GrpcError(StatusCode.UNAVAILABLE, text)


def _stage(device: Path, staging: Path, flags: str) -> None:
    """Whatever is on a disk already is never formatted away."""
    if is_mounted(staging):
        return
    content = programs.content_of(device)
    if not content:
        programs.make_filesystem(device)
    elif content != "ext4":
        raise GrpcError(StatusCode.INTERNAL, f"{device} holds {content}, which is left as it is; ext4 was wanted")
    else:
        programs.grow_unmounted(device)
    programs.mount_device(device, staging, flags)


def _grow(path: Path) -> None:
    """Let the file system that is mounted at a volume's path fill its device."""
    device = _mounted_device(path)
    if programs.is_full_size(device):
        return
    if not has_capability(CAP_SYS_RESOURCE):
        why = "the driver has no right to grow a mounted file system (CAP_SYS_RESOURCE)"
        raise GrpcError(StatusCode.FAILED_PRECONDITION, f"{why}: it grows when the volume's pods here have ended")
    programs.grow_mounted(str(device))


def _mounted_device(path: Path) -> Path:
    try:
        number = os.stat(path).st_dev
    except FileNotFoundError as error:
        raise GrpcError(StatusCode.NOT_FOUND, f"{path} does not exist") from error
    device = mounts.device_of(number)
    if device is None or not stat.S_ISBLK(device.stat().st_mode):
        raise GrpcError(StatusCode.NOT_FOUND, f"no disk is mounted at {path}")
    return device


def _size_of_device(device: Path) -> int | None:
    """None for what is no device."""
    if not device.is_block_device():
        return None
    with device.open("rb") as file:
        return file.seek(0, os.SEEK_END)


async def _work(function: Callable[..., T], *arguments: Any) -> T:
    """Run what blocks in a thread, to its end whoever hangs up. Raises ``GrpcError``."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise
    except (ProgramFailure, OSError) as error:
        raise GrpcError(StatusCode.INTERNAL, str(error)) from error
