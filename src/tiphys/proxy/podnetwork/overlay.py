"""A tunnel to the pods of nodes that are behind a router (pure): VXLAN, with everything about it computed and nothing
learned.

Each node has one device. Its hardware address follows from the node's own address, so that others know it without
asking; the device has the first address of the node's pod range, which is the next hop for that range. For each other
node there are: where frames for its hardware address are sent to (FDB), the hardware address of its next hop
(neighbour), and the route. Source: RFC 7348, and the kernel's Documentation/networking/vxlan.rst.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.proxy.podnetwork.routes import Hop, Routes, Wires, apart, node_address, pod_ranges

DEVICE = "tiphys-vxlan"
IDENTIFIER, PORT = 85, 8472
"""The network's number, and the port that Linux and other pod networks use."""
OVERHEAD = {4: 50, 6: 70}
"""Bytes that a tunnel over IPv4 or IPv6 adds to a packet: Ethernet, VXLAN, UDP and IP."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """This node's end, and what is at the others."""

    local: str
    mtu: int
    addresses: tuple[str, ...]
    """Our own next hops."""
    ends: dict[str, str] = field(default_factory=dict)
    """The node's address by the hardware address of its device."""
    neighbours: dict[str, str] = field(default_factory=dict)
    """The hardware address by next hop."""
    routes: Routes = field(default_factory=dict)


def tunnel(nodes: Iterable[Object], own: str, wires: Wires, direct: Collection[str] = ()) -> Tunnel | None:
    """The tunnel of the node ``own``; None if it has no address yet, or no other node needs one.

    ``direct`` are addresses of nodes to whose pods the default route leads.
    """
    itself, others = apart(nodes, own)
    local = node_address(itself, ipv6=False) or node_address(itself, ipv6=True)
    ranges = pod_ranges(itself)
    if not (local and ranges and wires.own(local)):
        return None
    ipv6 = ":" in local
    mtu = wires.mtu(local) - OVERHEAD[6 if ipv6 else 4]
    made = Tunnel(local, mtu, tuple(map(next_hop, ranges)))
    for node in others:
        there = node_address(node, ipv6=ipv6)
        if not there or there in direct or wires.reach(there):
            continue
        for cidr in pod_ranges(node):
            made.ends[hardware(there)] = there
            made.neighbours[next_hop(cidr)] = hardware(there)
            made.routes[cidr] = Hop(next_hop(cidr), device=DEVICE)
    return made if made.routes else None


def hardware(address: str) -> str:
    """The hardware address of a node's device: locally administered, of a single device."""
    digest = hashlib.sha256(address.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def next_hop(cidr: str) -> str:
    return cidr.partition("/")[0]


def make(wanted: Tunnel) -> list[str]:
    """Lines for ``ip -batch`` that make the device."""
    kind = f"type vxlan id {IDENTIFIER} dstport {PORT} local {wanted.local} nolearning"
    return [f"link add {DEVICE} address {hardware(wanted.local)} mtu {wanted.mtu} {kind}"]


def fits(listed: Object, wanted: Tunnel) -> bool:
    """Whether the device that ``ip -json -details link show`` lists is the wanted one."""
    data = (listed.get("linkinfo") or {}).get("info_data") or {}
    local = data.get("local6") or data.get("local")
    return (local, listed.get("address"), data.get("id")) == (wanted.local, hardware(wanted.local), IDENTIFIER)


def settle(wanted: Tunnel, ends: Mapping[str, str], neighbours: Iterable[str]) -> tuple[list[str], list[str]]:
    """Lines for ``ip -batch`` and for ``bridge -batch`` that lead to the wanted tunnel; ``ends`` and ``neighbours`` are
    what the device has."""
    lines = [f"link set {DEVICE} mtu {wanted.mtu} up"]
    lines += [f"address replace {_alone(address)} dev {DEVICE}" for address in wanted.addresses]
    lines += [f"neigh delete {hop} dev {DEVICE}" for hop in neighbours if hop not in wanted.neighbours]
    lines += [f"neigh replace {hop} lladdr {mac} dev {DEVICE} nud permanent" for hop, mac in wanted.neighbours.items()]
    fdb = [f"fdb delete {mac} dev {DEVICE} dst {there}" for mac, there in ends.items() if wanted.ends.get(mac) != there]
    fdb += [f"fdb replace {mac} dev {DEVICE} dst {there} self permanent" for mac, there in wanted.ends.items()]
    return lines, fdb


def _alone(address: str) -> str:
    return f"{address}/128 nodad" if ":" in address else f"{address}/32"
