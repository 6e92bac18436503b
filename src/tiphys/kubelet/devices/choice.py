"""Which of the free devices a container gets, by their distance from the processors and the memory that it has. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tiphys.kubelet.devices.ledger import NO_NUMA, Device
from tiphys.kubelet.topology.hints import Hint, Nodes, made_of


class Aligned(NamedTuple):
    """Free devices, those of nodes with fewest of them first."""

    near: list[str]
    """On NUMA nodes of the affinity."""
    far: list[str]
    elsewhere: list[str]
    """On no NUMA node, or all of them if nothing is known of any."""


def by_affinity(available: Collection[str], devices: Mapping[str, Device], affinity: Collection[int] | None) -> Aligned:
    """``affinity``: NUMA nodes that the topology manager has chosen, or None if it has none to choose."""
    if affinity is None or not has_topology(devices):
        return Aligned([], [], sorted(available))
    on_node: dict[int, set[str]] = {}
    for identity in available:
        for node in devices[identity].nodes or (NO_NUMA,):
            on_node.setdefault(node, set()).add(identity)

    def order(node: int) -> tuple[int, int, int]:
        kind = 0 if node in affinity else 2 if node == NO_NUMA else 1
        return kind, len(on_node[node]), node

    aligned, taken = Aligned([], [], []), set[str]()
    for node in sorted(on_node, key=order):
        group = aligned[order(node)[0]]
        group += sorted(on_node[node] - taken)
        taken |= on_node[node]
    return aligned


def hints(devices: Mapping[str, Device], free: Collection[str], reusable: Collection[str], wanted: int) -> list[Hint]:
    """Where ``wanted`` of the free devices can be; ``reusable`` ones have to be among them."""
    placed = {device.id: frozenset(device.nodes) for device in devices.values()}
    nodes = sorted({node for device in devices.values() for node in device.nodes})

    def has(mask: Nodes) -> int:
        if any(placed.get(one) and placed[one].isdisjoint(mask) for one in reusable):
            return -1
        return sum(not placed.get(one, mask).isdisjoint(mask) for one in free)

    return made_of(nodes, lambda mask: sum(not own.isdisjoint(mask) for own in placed.values()), has, wanted)


def has_topology(devices: Mapping[str, Device]) -> bool:
    return any(device.nodes for device in devices.values())


def take(wanted: int, chosen: list[str], *groups: Collection[str]) -> list[str]:
    """``chosen`` with members of the groups, in order, until there are ``wanted``; fewer if there are no more."""
    taken = dict.fromkeys(chosen)
    for group in groups:
        for identity in group:
            if len(taken) >= wanted:
                return list(taken)
            taken.setdefault(identity)
    return list(taken)
