"""The driver's Identity and Controller services: volumes made, copied, grown and removed, and snapshots of them.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#controller-service-rpc
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiphys.csi.answers import answer, capabilities, problem_of, require
from tiphys.csi.local.driver import TOPOLOGY_KEY, Shop
from tiphys.runtime.clock import Clock
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.files import DIRECTORY, IMAGE, LocalSnapshot, LocalVolume, NoSuchVolume, rounded
from tiphys.runtime.system.mounts import mount_points
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

_CAPABILITIES = (
    *("CREATE_DELETE_VOLUME", "CREATE_DELETE_SNAPSHOT", "CLONE_VOLUME", "EXPAND_VOLUME", "GET_CAPACITY"),
    *("LIST_VOLUMES", "LIST_SNAPSHOTS", "SINGLE_NODE_MULTI_WRITER"),
)
FORMAT = "format"
"""The parameter of a StorageClass that says how volumes are kept."""


class ControllerService:
    def __init__(self, shop: Shop, clock: Clock) -> None:
        self._shop = shop
        self._clock = clock

    async def ControllerGetCapabilities(self, _: Any) -> Any:
        return capabilities("ControllerGetCapabilitiesResponse", _CAPABILITIES)

    async def CreateVolume(self, request: Any) -> Any:
        require(request, "name", "volume_capabilities")
        self._check(request)
        volume, copy_of = self._wanted(request)
        async with self._shop.holding(request.name):
            known = any(each.id == volume.id for each in self._shop.store.all())
            if not known and volume.format == IMAGE and volume.capacity > self._shop.store.available():
                raise GrpcError(
                    StatusCode.RESOURCE_EXHAUSTED,
                    f"node {self._shop.node_name} has no room for {volume.capacity} bytes",
                )
            made = await self._shop.work(self._shop.store.create, volume, copy_of)
        return answer("CreateVolumeResponse", volume=self._described(made, request.volume_content_source))

    def _check(self, request: Any) -> None:
        if problem := problem_of(request.volume_capabilities):
            raise GrpcError(StatusCode.INVALID_ARGUMENT, problem)
        for name in request.parameters:
            if name != FORMAT and not name.startswith("csi.storage.k8s.io/"):
                raise GrpcError(StatusCode.INVALID_ARGUMENT, f"parameter {name} is not known; there is {FORMAT}")
        requisite = [dict(each.segments) for each in request.accessibility_requirements.requisite]
        if requisite and {TOPOLOGY_KEY: self._shop.node_name} not in requisite:
            raise GrpcError(
                StatusCode.RESOURCE_EXHAUSTED, f"node {self._shop.node_name} is not where the volume is wanted"
            )

    def _wanted(self, request: Any) -> tuple[LocalVolume, Path | None]:
        """The volume, and what it begins as a copy of."""
        size = rounded(request.capacity_range.required_bytes or 1 << 30)
        limit = request.capacity_range.limit_bytes
        if limit and size > limit:
            raise GrpcError(
                StatusCode.OUT_OF_RANGE, f"a volume of at most {limit} bytes cannot be had; the least is {size}"
            )
        block = any(each.WhichOneof("access_type") == "block" for each in request.volume_capabilities)
        format = request.parameters.get(FORMAT) or (IMAGE if self._shop.loops else DIRECTORY)
        if format not in (IMAGE, DIRECTORY):
            raise GrpcError(StatusCode.INVALID_ARGUMENT, f"{FORMAT} {format} is not known; use {IMAGE} or {DIRECTORY}")
        if format == IMAGE and not self._shop.loops:
            raise GrpcError(
                StatusCode.INVALID_ARGUMENT, f"{FORMAT} {IMAGE} needs loop devices and mkfs.ext4 on the node"
            )
        if block and format != IMAGE:
            raise GrpcError(StatusCode.INVALID_ARGUMENT, f"a block volume needs {FORMAT} {IMAGE}, and so loop devices")
        source = self._source(
            request.volume_content_source, elsewhere=bool(request.accessibility_requirements.requisite)
        )
        if source is None:
            return LocalVolume(request.name, size, format, block), None
        origin, copy_of, least = source
        if (origin.block, size < least) != (block, False):
            raise GrpcError(
                StatusCode.INVALID_ARGUMENT, f"a copy of {origin.id} needs its volumeMode, and {least} bytes"
            )
        return LocalVolume(request.name, size, origin.format, block, origin.id), copy_of

    def _source(self, source: Any, *, elsewhere: bool) -> tuple[LocalVolume | LocalSnapshot, Path, int] | None:
        """What to copy, where its content is, and its size. Raises ``GrpcError``.

        ``elsewhere``: the caller can ask another node.
        """
        kind, store = source.WhichOneof("type"), self._shop.store
        if kind is None:
            return None
        try:
            if kind == "snapshot":
                snapshot = store.get_snapshot(source.snapshot.snapshot_id)
                return snapshot, store.snapshot_content(snapshot), snapshot.size
            volume = store.get(source.volume.volume_id)
            return volume, store.content(volume), volume.capacity
        except NoSuchVolume as error:  # another node may have it
            code = StatusCode.RESOURCE_EXHAUSTED if elsewhere else StatusCode.NOT_FOUND
            raise GrpcError(code, str(error)) from error

    def _described(self, volume: LocalVolume, source: Any = None) -> dict[str, Any]:
        described: dict[str, Any] = {
            "volume_id": volume.id,
            "capacity_bytes": volume.capacity,
            "accessible_topology": [{"segments": {TOPOLOGY_KEY: self._shop.node_name}}],
        }
        if source is not None and source.WhichOneof("type"):
            described["content_source"] = source
        return described

    async def DeleteVolume(self, request: Any) -> Any:
        require(request, "volume_id")
        async with self._shop.holding(request.volume_id):
            try:
                await self._shop.work(self._delete, request.volume_id)
            except GrpcError as error:
                if error.code != StatusCode.NOT_FOUND:
                    raise
        return answer("DeleteVolumeResponse")

    def _delete(self, id: str) -> None:
        """Raises ``NoSuchVolume`` for what is gone already; what was never whole is removed all the same."""
        store = self._shop.store
        if any(each.id == id and self._is_used(each) for each in store.all()):
            raise GrpcError(StatusCode.FAILED_PRECONDITION, f"volume {id} is in use on node {self._shop.node_name}")
        store.delete(id)

    def _is_used(self, volume: LocalVolume) -> bool:
        return volume.format == IMAGE and bool(programs.loop_of(self._shop.store.content(volume)))

    async def ControllerExpandVolume(self, request: Any) -> Any:
        require(request, "volume_id")
        wanted = rounded(request.capacity_range.required_bytes)
        async with self._shop.holding(request.volume_id):
            volume = self._shop.volume(request.volume_id)
            if volume.format == IMAGE and wanted - volume.capacity > self._shop.store.available():
                raise GrpcError(
                    StatusCode.RESOURCE_EXHAUSTED, f"node {self._shop.node_name} has no room for {wanted} bytes"
                )
            grown = await self._shop.work(self._shop.store.grow, volume, wanted)
        needs_node = grown.format == IMAGE
        return answer(
            "ControllerExpandVolumeResponse", capacity_bytes=grown.capacity, node_expansion_required=needs_node
        )

    async def ValidateVolumeCapabilities(self, request: Any) -> Any:
        require(request, "volume_id", "volume_capabilities")
        volume = self._shop.volume(request.volume_id)
        for capability in request.volume_capabilities:
            problem = problem_of((capability,))
            if not problem and (capability.WhichOneof("access_type") == "block") != volume.block:
                problem = "the volume's mode is another"
            if problem:
                return answer("ValidateVolumeCapabilitiesResponse", message=problem)
        confirmed = {"volume_capabilities": request.volume_capabilities, "volume_context": request.volume_context}
        return answer("ValidateVolumeCapabilitiesResponse", confirmed=confirmed)

    async def ListVolumes(self, request: Any) -> Any:
        entries = [{"volume": self._described(volume)} for volume in self._shop.store.all()]
        return answer("ListVolumesResponse", **_page(entries, request))

    async def GetCapacity(self, request: Any) -> Any:
        segments = dict(request.accessible_topology.segments)
        here = not segments or segments == {TOPOLOGY_KEY: self._shop.node_name}
        possible = not problem_of(request.volume_capabilities)
        available = await self._shop.work(self._shop.store.available) if here and possible else 0
        return answer("GetCapacityResponse", available_capacity=available, maximum_volume_size={"value": available})

    # Snapshots

    async def CreateSnapshot(self, request: Any) -> Any:
        require(request, "name", "source_volume_id")
        async with self._shop.holding(request.source_volume_id, request.name):
            volume = self._shop.volume(request.source_volume_id)
            snapshot = await self._shop.work(self._copy_still, request.name, volume)
        return answer("CreateSnapshotResponse", snapshot=_snapshot(snapshot))

    def _copy_still(self, id: str, volume: LocalVolume) -> LocalSnapshot:
        """Copy the volume while nothing is written to it; file systems that are mounted are frozen meanwhile."""
        frozen: list[Path] = []

        def still() -> None:
            for folder in self._mounts_of(volume):
                programs.freeze(folder)
                frozen.append(folder)

        try:
            return self._shop.store.take_snapshot(id, volume, self._clock.now(), still)
        finally:
            for folder in frozen:
                programs.thaw(folder)

    def _mounts_of(self, volume: LocalVolume) -> list[Path]:
        """One mount of the volume's file system, if it has any."""
        if volume.format != IMAGE or volume.block:
            return []
        device = programs.loop_of(self._shop.store.content(volume))
        return [Path(path) for path in mount_points(device)][:1] if device else []

    async def DeleteSnapshot(self, request: Any) -> Any:
        require(request, "snapshot_id")
        async with self._shop.holding(request.snapshot_id):
            try:
                await self._shop.work(self._shop.store.delete_snapshot, request.snapshot_id)
            except GrpcError as error:
                if error.code != StatusCode.NOT_FOUND:
                    raise
        return answer("DeleteSnapshotResponse")

    async def ListSnapshots(self, request: Any) -> Any:
        entries = [
            {"snapshot": _snapshot(each)}
            for each in self._shop.store.all_snapshots()
            if request.snapshot_id in ("", each.id) and request.source_volume_id in ("", each.volume)
        ]
        return answer("ListSnapshotsResponse", **_page(entries, request))


def _snapshot(snapshot: LocalSnapshot) -> dict[str, Any]:
    seconds = int(snapshot.created)
    return {
        "snapshot_id": snapshot.id,
        "source_volume_id": snapshot.volume,
        "size_bytes": snapshot.size,
        "creation_time": {"seconds": seconds, "nanos": int((snapshot.created - seconds) * 1e9)},
        "ready_to_use": True,
    }


def _page(entries: list[dict[str, Any]], request: Any) -> dict[str, Any]:
    """The entries from the request's token on; a token is the number of the next entry."""
    try:
        start = int(request.starting_token or 0)
    except ValueError:
        start = -1
    if not 0 <= start <= len(entries):
        raise GrpcError(StatusCode.ABORTED, f"starting_token {request.starting_token!r} is none of this list's")
    stop = start + request.max_entries if request.max_entries > 0 else len(entries)
    return {"entries": entries[start:stop], "next_token": str(stop) if stop < len(entries) else ""}
