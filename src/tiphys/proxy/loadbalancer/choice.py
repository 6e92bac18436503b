"""Which node announces which address (pure): every node comes to the same result from the same facts.

A node that comes or goes moves the addresses that it takes or had, and no others (rendezvous hashing). Source:
Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tiphys.api.endpointslices import nodes_with_endpoints
from tiphys.api.meta.addresspools import AddressPool
from tiphys.api.object import Object


@dataclass(frozen=True, slots=True)
class AnnouncingNode:
    """A node that can announce addresses, with the networks that its wires are in."""

    name: str
    networks: tuple[str, ...] = ()

    def reaches(self, address: str) -> bool:
        there = ipaddress.ip_address(address)
        return any(there in ipaddress.ip_network(network, strict=False) for network in self.networks)


@dataclass(frozen=True, slots=True)
class WantedAddress:
    """An address that somebody should announce. ``nodes``: only one of these may; None: any node."""

    address: str
    nodes: frozenset[str] | None = None


def owners(wanted: Iterable[WantedAddress], members: Collection[AnnouncingNode]) -> dict[str, str]:
    """The node by address. Nodes with a wire in the address's network come before others, which reach it by a router
    at best. An address that nobody may announce is left out."""
    chosen = {}
    for one in wanted:
        able = [member for member in members if one.nodes is None or member.name in one.nodes]
        near = [member for member in able if member.reaches(one.address)] or able
        if near:
            chosen[one.address] = max(near, key=lambda member: _weight(member.name, one.address)).name
    return chosen


def _weight(name: str, address: str) -> bytes:
    return hashlib.sha256(f"{name} {address}".encode()).digest()


def wanted_of(service: Object, slices: Iterable[Object], pool: AddressPool) -> list[WantedAddress]:
    """The addresses of the pool that a Service has, and who may announce them."""
    spec = service.get("spec") or {}
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") is not None:
        return []
    shown = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    addresses = [entry["ip"] for entry in shown if entry.get("ip") in pool and entry.get("ipMode", "VIP") == "VIP"]
    local = spec.get("externalTrafficPolicy") == "Local"
    nodes = nodes_with_endpoints(slices) if addresses and local else None
    return [WantedAddress(address, nodes) for address in addresses]


def interface_of(address: str, interfaces: Mapping[str, Collection[str]], node_address: str) -> str:
    """The interface that an address belongs on: the one in whose network it is, or the one with the node's own; empty
    if there is neither. ``interfaces`` are addresses with prefixes, by interface."""
    there = ipaddress.ip_address(address)
    for name, addresses in interfaces.items():
        if any(there in ipaddress.ip_network(own, strict=False) for own in addresses):
            return name
    return next((name for name, own in interfaces.items() if any(a.partition("/")[0] == node_address for a in own)), "")
