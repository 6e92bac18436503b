"""Which routes a node needs to the pods of other nodes (pure): by the node's address, if it is on the same wire.

A node that is reached through a router gets no route of its own: its pods are where the default route leads. Source:
https://kubernetes.io/docs/concepts/cluster-administration/networking/ (a flat network of pods, without translation).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from tiphys.api.object import Object

Routes = dict[str, str]
"""The next hop by destination, both as text."""

PROTOCOL = "85"
"""Marks our routes among the kernel's (RTA_PROTOCOL), so that they can be found again."""


def pod_ranges(node: Object) -> tuple[str, ...]:
    """The pod addresses that a node was given: empty until it was."""
    spec = node.get("spec") or {}
    return tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ()))


def wanted(nodes: Iterable[Object], own: str, wires: Sequence[str]) -> Routes:
    """The routes of the node ``own``; ``wires`` are the networks that its interfaces are on. Nodes that are malformed
    are left out, as nothing can be sent to them."""
    networks = [ipaddress.ip_network(wire, strict=False) for wire in wires]
    routes: Routes = {}
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        if node["metadata"]["name"] == own:
            continue
        for cidr in pod_ranges(node):
            hop = _address(node, ipv6=":" in cidr)
            if hop and any(ipaddress.ip_address(hop) in network for network in networks):
                routes.setdefault(cidr, hop)
    return routes


def _address(node: Object, *, ipv6: bool) -> str:
    """The node's address of one family, as it reports it; empty if it has none."""
    for entry in (node.get("status") or {}).get("addresses") or ():
        if entry["type"] == "InternalIP" and (":" in entry["address"]) == ipv6:
            return str(entry["address"])
    return ""


def commands(present: Mapping[str, str], routes: Mapping[str, str]) -> list[str]:
    """Lines for ``ip -batch`` that lead from the routes that are there to those that are wanted; none if they agree."""
    gone = [f"route delete {cidr} proto {PROTOCOL}" for cidr in present if cidr not in routes]
    new = [
        f"route replace {cidr} via {hop} proto {PROTOCOL}" for cidr, hop in routes.items() if present.get(cidr) != hop
    ]
    return gone + new
