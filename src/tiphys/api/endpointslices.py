"""What EndpointSlices say about a Service (pure): whose they are, and which nodes have endpoints that get traffic.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.meta.objects import labels_of, namespace_of
from tiphys.api.object import Object

SERVICE_NAME = "kubernetes.io/service-name"


def service_of(slice_: Object) -> str | None:
    """``namespace/name`` of the Service that a slice belongs to, if it names one."""
    name = labels_of(slice_).get(SERVICE_NAME)
    return f"{namespace_of(slice_)}/{name}" if name else None


def by_service(slice_: Object) -> list[str]:
    """For an index of slices by their Service."""
    key = service_of(slice_)
    return [key] if key is not None else []


def nodes_with_endpoints(slices: Iterable[Object]) -> frozenset[str]:
    """The nodes with an endpoint that gets traffic: a ready one, or where no node has that, one that still serves while
    it terminates."""
    endpoints = [endpoint for slice_ in slices for endpoint in slice_.get("endpoints") or ()]
    ready = _nodes(endpoints, "ready")
    return ready or _nodes(endpoints, "serving")


def _nodes(endpoints: Iterable[Object], condition: str) -> frozenset[str]:
    return frozenset(
        endpoint["nodeName"]
        for endpoint in endpoints
        if endpoint.get("nodeName") and (endpoint.get("conditions") or {}).get(condition) is not False
    )
