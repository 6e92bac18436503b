"""The driver's Node service: volumes mounted once per node, and bound to each pod's own place.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#node-service-rpc
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiphys.api.meta.quantity import Quantity, QuantityError
from tiphys.csi.answers import answer, capabilities, require
from tiphys.csi.local.driver import TOPOLOGY_KEY, Shop
from tiphys.csi.places import bind_at, folder_stats, is_mounted, mount_at, remove_target, unmount_all
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.files import DIRECTORY, IMAGE, LocalVolume, NoSuchVolume, rounded
from tiphys.runtime.system.capabilities import CAP_SYS_RESOURCE, has_capability
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

_CAPABILITIES = ("STAGE_UNSTAGE_VOLUME", "EXPAND_VOLUME", "GET_VOLUME_STATS", "SINGLE_NODE_MULTI_WRITER")
_READ_ONLY_MODES = (2, 3)
_EPHEMERAL = "csi.storage.k8s.io/ephemeral"
SIZE, _DEFAULT_SIZE = "size", "1Gi"
"""The attribute of an inline volume that says how large it is."""


class NodeService:
    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    async def NodeGetCapabilities(self, _: Any) -> Any:
        return capabilities("NodeGetCapabilitiesResponse", _CAPABILITIES)

    async def NodeGetInfo(self, _: Any) -> Any:
        topology = {"segments": {TOPOLOGY_KEY: self._shop.node_name}}
        return answer("NodeGetInfoResponse", node_id=self._shop.node_name, accessible_topology=topology)

    async def NodeStageVolume(self, request: Any) -> Any:
        require(request, "volume_id", "staging_target_path")
        async with self._shop.holding(request.volume_id):
            volume = self._shop.volume(request.volume_id)
            if volume.format == IMAGE:
                flags = ",".join(request.volume_capability.mount.mount_flags)
                await self._shop.work(self._stage, volume, Path(request.staging_target_path), flags)
        return answer("NodeStageVolumeResponse")

    def _stage(self, volume: LocalVolume, staging: Path, flags: str) -> None:
        image = self._shop.store.content(volume)
        if volume.block:
            programs.attach_loop(image)
            return
        if not is_mounted(staging):
            programs.grow_unmounted(image)
            programs.mount_image(image, staging, flags)

    def _fill(self, volume: LocalVolume) -> None:
        """Let the device and its file system be as large as the volume is by now."""
        image = self._shop.store.content(volume)
        device = programs.loop_of(image)
        if not device:
            return
        programs.see_new_size(device)
        if volume.block or programs.is_full_size(image):
            return
        if not has_capability(CAP_SYS_RESOURCE):
            why = "the driver has no right to grow a mounted file system (CAP_SYS_RESOURCE)"
            raise GrpcError(StatusCode.FAILED_PRECONDITION, f"{why}: {volume.id} grows when its pods here have ended")
        programs.grow_mounted(device)

    async def NodePublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "target_path")
        async with self._shop.holding(request.volume_id):
            if request.volume_context.get(_EPHEMERAL) == "true":
                volume = await self._ephemeral(request)
            else:
                volume = self._shop.volume(request.volume_id)
            staging = Path(request.staging_target_path)
            read_only = request.readonly or request.volume_capability.access_mode.mode in _READ_ONLY_MODES
            await self._shop.work(self._publish, volume, staging, Path(request.target_path), read_only=read_only)
        return answer("NodePublishVolumeResponse")

    async def _ephemeral(self, request: Any) -> LocalVolume:
        """The volume that stands in a pod, made when it is first published. Raises ``GrpcError``."""
        text = request.volume_context.get(SIZE) or _DEFAULT_SIZE
        try:
            size = rounded(Quantity(text).value())
        except QuantityError as error:
            raise GrpcError(StatusCode.INVALID_ARGUMENT, f"{SIZE} {text} is no quantity: {error}") from error
        store = self._shop.store
        if size > store.available():
            raise GrpcError(StatusCode.RESOURCE_EXHAUSTED, f"node {self._shop.node_name} has no room for {size} bytes")
        format = IMAGE if self._shop.loops else DIRECTORY
        wanted = LocalVolume(request.volume_id, size, format, ephemeral=True)
        return await self._shop.work(store.create, wanted, None)

    def _publish(self, volume: LocalVolume, staging: Path, target: Path, *, read_only: bool) -> None:
        content = self._shop.store.content(volume)
        if volume.block:
            content = Path(programs.attach_loop(content))
        elif volume.format == IMAGE and not volume.ephemeral:
            content = staging
            if not is_mounted(staging):
                raise GrpcError(StatusCode.FAILED_PRECONDITION, f"volume {volume.id} is not staged at {staging}")
        if volume.ephemeral and volume.format == IMAGE:
            image = self._shop.store.content(volume)
            mount_at(target, lambda: programs.mount_image(image, target, "ro" if read_only else ""))
        else:
            bind_at(content, target, is_folder=not volume.block, read_only=read_only)

    async def NodeUnpublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "target_path")
        async with self._shop.holding(request.volume_id):
            await self._shop.work(self._unpublish, request.volume_id, Path(request.target_path))
        return answer("NodeUnpublishVolumeResponse")

    def _unpublish(self, id: str, target: Path) -> None:
        remove_target(target)
        if any(volume.id == id and volume.ephemeral for volume in self._shop.store.all()):
            self._shop.store.delete(id)

    async def NodeUnstageVolume(self, request: Any) -> Any:
        require(request, "volume_id", "staging_target_path")
        async with self._shop.holding(request.volume_id):
            await self._shop.work(self._unstage, request.volume_id, Path(request.staging_target_path))
        return answer("NodeUnstageVolumeResponse")

    def _unstage(self, id: str, staging: Path) -> None:
        if staging.parent.is_dir():
            unmount_all(staging)
        try:
            volume = self._shop.store.get(id)
        except NoSuchVolume:
            return
        if volume.block and (device := programs.loop_of(self._shop.store.content(volume))):
            programs.detach_loop(device)

    async def NodeExpandVolume(self, request: Any) -> Any:
        require(request, "volume_id", "volume_path")
        async with self._shop.holding(request.volume_id):
            volume = self._shop.volume(request.volume_id)
            if volume.format == IMAGE:
                await self._shop.work(self._fill, volume)
        return answer("NodeExpandVolumeResponse", capacity_bytes=volume.capacity)

    async def NodeGetVolumeStats(self, request: Any) -> Any:
        """Bytes and inodes that a volume has and uses. Raises ``GrpcError`` NOT_FOUND if its path is gone."""
        require(request, "volume_id", "volume_path")
        volume = self._shop.volume(request.volume_id)
        if volume.block:
            return answer("NodeGetVolumeStatsResponse", usage=[{"unit": "BYTES", "total": volume.capacity}])
        return await folder_stats(request.volume_path)
