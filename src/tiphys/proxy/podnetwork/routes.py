"""Which routes a node needs to the pods of other nodes (pure): by the node's address, if it is on the same wire.

Source: https://kubernetes.io/docs/concepts/cluster-administration/networking/ (a flat network of pods, without
translation).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tiphys.api.object import Object

PROTOCOL = "85"
"""Marks our routes among the kernel's (RTA_PROTOCOL), so that they can be found again."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Where packets go next."""

    via: str
    source: str = ""
    """The address that this node's own packets carry there; empty if the kernel is to choose."""
    device: str = ""
    """The tunnel that leads there, where no wire does."""

    @property
    def words(self) -> str:
        tunnel = f" dev {self.device} onlink" if self.device else ""
        return f"via {self.via}{tunnel} proto {PROTOCOL}" + (f" src {self.source}" if self.source else "")


Routes = dict[str, Hop]
"""The hop by destination."""


@dataclass(frozen=True, slots=True)
class Wires:
    """This node's addresses, with the networks that they are in, and how large packets there may be."""

    addresses: Mapping[str, int]
    """The MTU by address/prefix."""

    def own(self, address: str) -> bool:
        return any(wire.partition("/")[0] == address for wire in self.addresses)

    def reach(self, address: str) -> bool:
        """Whether an address is in a network of an interface, so that no router is needed."""
        there = ipaddress.ip_address(address)
        return any(there in ipaddress.ip_network(wire, strict=False) for wire in self.addresses)

    def mtu(self, address: str) -> int:
        """That of the interface with an address of ours; Ethernet's if it is not known."""
        return next((mtu for wire, mtu in self.addresses.items() if wire.partition("/")[0] == address), 1500)


def wires_of(listed: Iterable[Object], but: str = "") -> Wires:
    """From the output of ``ip -json address show up``, without the interface ``but``."""
    return Wires(
        {
            f"{address['local']}/{address['prefixlen']}": int(interface.get("mtu", 1500))
            for interface in listed
            if "LOOPBACK" not in interface.get("flags", ()) and interface.get("ifname") != but
            for address in interface.get("addr_info") or ()
        }
    )


def pod_ranges(node: Object) -> tuple[str, ...]:
    """The pod addresses that a node was given: empty until it was."""
    spec = node.get("spec") or {}
    return tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ()))


def wanted(nodes: Iterable[Object], own: str, wires: Wires) -> Routes:
    """The routes of the node ``own`` to those on its wires. Nodes that are malformed are left out, as nothing can be
    sent to them."""
    itself, others = apart(nodes, own)
    routes: Routes = {}
    for node in others:
        for cidr in pod_ranges(node):
            hop = node_address(node, ipv6=":" in cidr)
            if hop and wires.reach(hop):
                source = node_address(itself, ipv6=":" in cidr)
                routes.setdefault(cidr, Hop(hop, source if wires.own(source) else ""))
    return routes


def apart(nodes: Iterable[Object], own: str) -> tuple[Object, Sequence[Object]]:
    """The node itself (empty if it is not there), and the others by name."""
    ordered = sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    itself = next((node for node in ordered if node["metadata"]["name"] == own), {})
    return itself, [node for node in ordered if node is not itself]


def node_address(node: Object, *, ipv6: bool) -> str:
    """The node's address of one family, as it reports it; empty if it has none."""
    for entry in (node.get("status") or {}).get("addresses") or ():
        if entry["type"] == "InternalIP" and (":" in entry["address"]) == ipv6:
            return str(entry["address"])
    return ""


def matters(node: Object) -> tuple[object, ...]:
    """What of a node routes and tunnels are made from: while it stays the same, so do they."""
    return pod_ranges(node), node_address(node, ipv6=False), node_address(node, ipv6=True)


def present(listed: Iterable[Object], tunnel: str) -> Routes:
    """From the output of ``ip -json route show``."""
    return {
        route["dst"]: Hop(
            route.get("gateway", ""), route.get("prefsrc", ""), tunnel if route.get("dev") == tunnel else ""
        )
        for route in listed
    }


def commands(present: Mapping[str, Hop], routes: Mapping[str, Hop]) -> list[str]:
    """Lines for ``ip -batch`` that lead from the routes that are there to those that are wanted; none if they agree."""
    gone = [f"route delete {cidr} proto {PROTOCOL}" for cidr in present if cidr not in routes]
    new = [f"route replace {cidr} {hop.words}" for cidr, hop in routes.items() if present.get(cidr) != hop]
    return gone + new
