"""A CSI driver that keeps its volumes in memory, remembers what it was asked, and fails as a test wishes."""

from __future__ import annotations

from typing import Any

from tiphys.api.csi.messages import csi
from tiphys.wire.grpc.stream import GrpcError

NAME = "memory.example"
ALL = (
    *("CREATE_DELETE_VOLUME", "PUBLISH_UNPUBLISH_VOLUME", "CREATE_DELETE_SNAPSHOT", "CLONE_VOLUME", "EXPAND_VOLUME"),
    *("GET_CAPACITY", "MODIFY_VOLUME", "LIST_SNAPSHOTS"),
)


class MemoryDriver:
    """``failures``: by method, the errors of its next calls. ``capabilities`` of the controller service."""

    def __init__(
        self, *, topology: bool = False, node_expansion: bool = False, capabilities: tuple[str, ...] = ALL
    ) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.failures: dict[str, list[GrpcError]] = {}
        self.volumes: dict[str, int] = {}
        self.snapshots: dict[str, str] = {}
        self.published: set[tuple[str, str]] = set()
        self._topology = topology
        self._node_expansion = node_expansion
        self._capabilities = capabilities

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    async def call(self, method: str, timeout: float, /, **fields: Any) -> Any:
        about = next(methods[method] for each in csi().services() if method in (methods := csi().methods(each)))
        request = about.request(**fields)
        self.calls.append((method, request))
        if failures := self.failures.get(method):
            raise failures.pop(0)
        answer = getattr(self, f"_{method}")(request)
        return about.response(**answer)

    def _Probe(self, _: Any) -> dict[str, Any]:
        return {}

    def _GetPluginInfo(self, _: Any) -> dict[str, Any]:
        return {"name": NAME}

    def _GetPluginCapabilities(self, _: Any) -> dict[str, Any]:
        services = ["CONTROLLER_SERVICE", *(["VOLUME_ACCESSIBILITY_CONSTRAINTS"] if self._topology else [])]
        return {"capabilities": [{"service": {"type": each}} for each in services]}

    def _ControllerGetCapabilities(self, _: Any) -> dict[str, Any]:
        return {"capabilities": [{"rpc": {"type": each}} for each in self._capabilities]}

    def _CreateVolume(self, request: Any) -> dict[str, Any]:
        handle = f"handle-of-{request.name}"
        self.volumes[handle] = request.capacity_range.required_bytes
        volume: dict[str, Any] = {"volume_id": handle, "capacity_bytes": self.volumes[handle]}
        if request.HasField("volume_content_source"):
            volume["content_source"] = request.volume_content_source
        if request.HasField("accessibility_requirements"):
            volume["accessible_topology"] = request.accessibility_requirements.preferred[:1]
        return {"volume": volume}

    def _DeleteVolume(self, request: Any) -> dict[str, Any]:
        self.volumes.pop(request.volume_id, None)
        return {}

    def _ControllerPublishVolume(self, request: Any) -> dict[str, Any]:
        self.published.add((request.volume_id, request.node_id))
        return {"publish_context": {"device": "sdx"}}

    def _ControllerUnpublishVolume(self, request: Any) -> dict[str, Any]:
        self.published.discard((request.volume_id, request.node_id))
        return {}

    def _ControllerExpandVolume(self, request: Any) -> dict[str, Any]:
        self.volumes[request.volume_id] = request.capacity_range.required_bytes
        return {
            "capacity_bytes": self.volumes[request.volume_id],
            "node_expansion_required": self._node_expansion,
        }

    def _ControllerModifyVolume(self, _: Any) -> dict[str, Any]:
        return {}

    def _GetCapacity(self, _: Any) -> dict[str, Any]:
        return {"available_capacity": 10 << 30, "maximum_volume_size": {"value": 1 << 30}}

    def _CreateSnapshot(self, request: Any) -> dict[str, Any]:
        self.snapshots[request.name] = request.source_volume_id
        snapshot = {
            "snapshot_id": request.name,
            "source_volume_id": request.source_volume_id,
            "size_bytes": self.volumes.get(request.source_volume_id, 0),
            "creation_time": {"seconds": 1_700_000_000},
            "ready_to_use": True,
        }
        return {"snapshot": snapshot}

    def _DeleteSnapshot(self, request: Any) -> dict[str, Any]:
        self.snapshots.pop(request.snapshot_id, None)
        return {}
