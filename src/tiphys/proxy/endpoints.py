"""Which endpoints of a service port may be used from this node (pure).

Ready endpoints, preferring those that topology hints name for this node or zone; if none is ready, endpoints that
are terminating but still serve. Traffic policy Local uses only those on this node. Sources:
https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies, KEP-2433 (topology hints), KEP-1669
(terminating endpoints), KEP-3015 (PreferSameZone, PreferSameNode).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.proxy.state import Endpoint, Place, ServicePort

Endpoints = tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Usable:
    """The endpoints for traffic under policy Cluster, under Local, their union, and whether any exists anywhere."""

    cluster: Endpoints = ()
    local: Endpoints = ()
    reachable: Endpoints = ()
    anywhere: bool = False


def usable(endpoints: Endpoints, port: ServicePort, place: Place) -> Usable:
    cluster: Endpoints = ()
    if port.uses_cluster_endpoints:
        ready = tuple(endpoint for endpoint in endpoints if endpoint.ready)
        cluster = _hinted(ready, place) or _draining(endpoints)
    if not port.uses_local_endpoints:
        return Usable(cluster, (), cluster, bool(cluster))
    here = tuple(endpoint for endpoint in endpoints if endpoint.local)
    local = tuple(endpoint for endpoint in here if endpoint.ready) or _draining(here)
    anywhere = bool(cluster) or any(e.ready or (e.serving and e.terminating) for e in endpoints)
    reachable = tuple(
        sorted({e.address: e for e in (*cluster, *local)}.values(), key=lambda endpoint: endpoint.address)
    )
    return Usable(cluster, local, reachable, anywhere)


def _draining(endpoints: Iterable[Endpoint]) -> Endpoints:
    return tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def _hinted(ready: Endpoints, place: Place) -> Endpoints:
    """Hints count only if every ready endpoint has one, and at least one is for this place."""
    if ready and all(endpoint.nodes for endpoint in ready):
        same_node = tuple(endpoint for endpoint in ready if place.node in endpoint.nodes)
        if same_node:
            return same_node
    if ready and all(endpoint.zones for endpoint in ready):
        same_zone = tuple(endpoint for endpoint in ready if place.zone in endpoint.zones)
        if same_zone:
            return same_zone
    return ready
