"""Which routes a cluster needs, and which of those that there are go. Pure.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/#route-controller
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.api.meta.objects import name_of, uid_of
from tiphys.api.object import Object
from tiphys.cloud.addresses import differ
from tiphys.cloud.provider import Route

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Plan:
    """``delete`` comes first: a route that changes is deleted and made again."""

    delete: Sequence[Route]
    create: Sequence[tuple[str, Route]]
    """With the uid of its node, as a hint."""


def plan(nodes: Iterable[Object], routes: Sequence[Route], cluster_cidrs: Sequence[Network]) -> Plan:
    """What brings the cloud's routes to those of the nodes. Routes outside of the cluster's ranges are not ours."""
    have = {(route.node, route.cidr): route for route in routes if route.node and not route.blackhole}
    wanted: dict[tuple[str, str], Object] = {(name_of(n), cidr): n for n in nodes for cidr in pod_cidrs(n)}
    kept = {
        at
        for at, route in have.items()
        if at in wanted and not (route.addresses is not None and differ(route.addresses, _addresses(wanted[at])))
    }
    delete = [
        route
        for route in routes
        if _is_ours(route, cluster_cidrs) and (route.blackhole or (route.node, route.cidr) not in kept)
    ]
    create = [
        (uid_of(node), Route("", name, cidr, _addresses(node)))
        for (name, cidr), node in wanted.items()
        if (name, cidr) not in kept
    ]
    return Plan(delete, create)


def pod_cidrs(node: Object) -> Sequence[str]:
    return node["spec"].get("podCIDRs") or ()


def _addresses(node: Object) -> Sequence[Object]:
    return (node.get("status") or {}).get("addresses") or ()


def _is_ours(route: Route, cluster_cidrs: Sequence[Network]) -> bool:
    try:
        network = ipaddress.ip_network(route.cidr, strict=False)
    except ValueError:
        return False
    # A route that is wider than the cluster, such as the default route, begins and ends outside of it.
    ends = (network.network_address, network.broadcast_address)
    return any(one.version == network.version and any(end in one for end in ends) for one in cluster_cidrs)
