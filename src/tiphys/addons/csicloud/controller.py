"""The driver's Controller service: calls of the protocol as calls of the cloud's ``Volumes``, errors in its words.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#controller-service-rpc
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tiphys.api.object import Object
from tiphys.cloud.provider import (
    AttachedElsewhere,
    CloudError,
    CloudSnapshot,
    CloudVolume,
    NoRoom,
    NoSuchDisk,
    OtherDisk,
    RetryAfter,
    Volumes,
)
from tiphys.csi.answers import Busy, answer, capabilities, problem_of, require
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

NAME = "cloud.tiphys"
ZONE_KEY = "topology.kubernetes.io/zone"
KIND = "type"
"""The parameter of a StorageClass that is the cloud's word for a sort of disks."""
DEVICES = "devices"
"""In what a node is given with a volume: the paths at which its device may appear, with commas between."""
_CAPABILITIES = ("CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "CREATE_DELETE_SNAPSHOT", "EXPAND_VOLUME")
_CODES = {
    NoSuchDisk: StatusCode.NOT_FOUND,
    AttachedElsewhere: StatusCode.FAILED_PRECONDITION,
    NoRoom: StatusCode.RESOURCE_EXHAUSTED,
    OtherDisk: StatusCode.ALREADY_EXISTS,
    RetryAfter: StatusCode.UNAVAILABLE,
}
_GIB = 1 << 30


@contextlib.contextmanager
def in_its_words() -> Iterator[None]:
    """What the cloud raises becomes ``GrpcError``."""
    try:
        yield
    except CloudError as error:
        code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), StatusCode.INTERNAL)
        raise GrpcError(code, str(error)) from error


def node_of(identity: str) -> Object:
    """The node that a node id stands for: its provider id if it has one, or else its name."""
    is_provider_id = "://" in identity
    spec = {"providerID": identity} if is_provider_id else {}
    return {"metadata": {"name": identity.rpartition("/")[2]}, "spec": spec, "status": {}}


class CloudController(Busy):
    def __init__(self, volumes: Volumes) -> None:
        super().__init__()
        self._volumes = volumes

    async def ControllerGetCapabilities(self, _: Any) -> Any:
        return capabilities("ControllerGetCapabilitiesResponse", _CAPABILITIES)

    async def CreateVolume(self, request: Any) -> Any:
        """Make a disk, or give the one of this name; what turns out too large is removed. Raises ``GrpcError``."""
        require(request, "name", "volume_capabilities")
        if problem := problem_of(request.volume_capabilities):
            raise GrpcError(StatusCode.INVALID_ARGUMENT, problem)
        for name in request.parameters:
            if name != KIND and not name.startswith("csi.storage.k8s.io/"):
                raise GrpcError(StatusCode.INVALID_ARGUMENT, f"parameter {name} is not known; there is {KIND}")
        source = request.volume_content_source
        if source.WhichOneof("type") == "volume":
            raise GrpcError(StatusCode.INVALID_ARGUMENT, "disks are copied by snapshots only; take one of the volume")
        snapshot = source.snapshot.snapshot_id
        size = request.capacity_range.required_bytes or _GIB
        async with self.holding(request.name):
            with in_its_words():
                if snapshot:
                    await self._usable(snapshot)
                made = await self._volumes.create(
                    request.name, size, zone=_zone(request), kind=request.parameters.get(KIND, ""), source=snapshot
                )
        limit = request.capacity_range.limit_bytes
        if limit and made.size > limit:
            await self._delete(made.id)
            raise GrpcError(
                StatusCode.OUT_OF_RANGE, f"the least disk has {made.size} bytes, and at most {limit} may be"
            )
        return answer("CreateVolumeResponse", volume=_described(made, source))

    async def _usable(self, snapshot: str) -> None:
        taken = await self._volumes.get_snapshot(snapshot)
        if taken is None:
            raise NoSuchDisk(f"there is no snapshot {snapshot}")
        if not taken.is_ready:
            raise RetryAfter(f"snapshot {snapshot} is not ready yet", 5.0)

    async def DeleteVolume(self, request: Any) -> Any:
        require(request, "volume_id")
        async with self.holding(request.volume_id):
            await self._delete(request.volume_id)
        return answer("DeleteVolumeResponse")

    async def _delete(self, identity: str) -> None:
        with in_its_words():
            await self._volumes.delete(identity)

    async def ControllerPublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "node_id", "volume_capability")
        if request.readonly:
            raise GrpcError(
                StatusCode.INVALID_ARGUMENT, "disks are attached to be written; let the pod mount it readOnly"
            )
        async with self.holding(request.volume_id):
            with in_its_words():
                devices = await self._volumes.attach(request.volume_id, node_of(request.node_id))
        return answer("ControllerPublishVolumeResponse", publish_context={DEVICES: ",".join(devices)})

    async def ControllerUnpublishVolume(self, request: Any) -> Any:
        require(request, "volume_id", "node_id")
        async with self.holding(request.volume_id):
            with in_its_words():
                await self._volumes.detach(request.volume_id, node_of(request.node_id))
        return answer("ControllerUnpublishVolumeResponse")

    async def ControllerExpandVolume(self, request: Any) -> Any:
        require(request, "volume_id")
        async with self.holding(request.volume_id):
            with in_its_words():
                grown = await self._volumes.expand(request.volume_id, request.capacity_range.required_bytes)
        return answer("ControllerExpandVolumeResponse", capacity_bytes=grown.size, node_expansion_required=True)

    async def ValidateVolumeCapabilities(self, request: Any) -> Any:
        require(request, "volume_id", "volume_capabilities")
        with in_its_words():
            if await self._volumes.get(request.volume_id) is None:
                raise NoSuchDisk(f"there is no volume {request.volume_id}")
        if problem := problem_of(request.volume_capabilities):
            return answer("ValidateVolumeCapabilitiesResponse", message=problem)
        confirmed = {"volume_capabilities": request.volume_capabilities, "volume_context": request.volume_context}
        return answer("ValidateVolumeCapabilitiesResponse", confirmed=confirmed)

    async def CreateSnapshot(self, request: Any) -> Any:
        require(request, "name", "source_volume_id")
        async with self.holding(request.source_volume_id, request.name):
            with in_its_words():
                taken = await self._volumes.snapshot(request.name, request.source_volume_id)
        return answer("CreateSnapshotResponse", snapshot=_snapshot(taken))

    async def DeleteSnapshot(self, request: Any) -> Any:
        require(request, "snapshot_id")
        async with self.holding(request.snapshot_id):
            with in_its_words():
                await self._volumes.delete_snapshot(request.snapshot_id)
        return answer("DeleteSnapshotResponse")


def _zone(request: Any) -> str:
    """The zone that is wanted most; empty if any will do."""
    wanted = request.accessibility_requirements
    segments = [dict(each.segments) for each in (*wanted.preferred, *wanted.requisite)]
    return next((each[ZONE_KEY] for each in segments if ZONE_KEY in each), "")


def _described(volume: CloudVolume, source: Any) -> dict[str, Any]:
    described: dict[str, Any] = {"volume_id": volume.id, "capacity_bytes": volume.size}
    if volume.zone:
        described["accessible_topology"] = [{"segments": {ZONE_KEY: volume.zone}}]
    if source.WhichOneof("type"):
        described["content_source"] = source
    return described


def _snapshot(snapshot: CloudSnapshot) -> dict[str, Any]:
    seconds = int(snapshot.created)
    return {
        "snapshot_id": snapshot.id,
        "source_volume_id": snapshot.volume,
        "size_bytes": snapshot.size,
        "creation_time": {"seconds": seconds, "nanos": int((snapshot.created - seconds) * 1e9)},
        "ready_to_use": snapshot.is_ready,
    }
