"""Which zone each endpoint of a Service serves, by the zones' processors (``topology-mode: Auto``): pure decisions.

Each zone is given endpoints in proportion to the allocatable processors of its ready nodes, and enough that none has a
fifth more than its share to do; as many as can be serve their own zone. Without enough endpoints or facts no endpoint
has a hint. Sources: KEP-2433, https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.controlkit.objects import annotations_of, copy, is_ready_node, labels_of, status_of
from tiphys.controllers.network.endpointslice import hints

MODE = "service.kubernetes.io/topology-mode"
DEPRECATED_MODE = "service.kubernetes.io/topology-aware-hints"
ZONE = "topology.kubernetes.io/zone"

OVERLOAD_THRESHOLD = 0.2
"""How much more than its share an endpoint may have to do."""

NO_ZONE = "One or more endpoints do not have a zone specified"
NO_FACTS = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
TOO_FEW = "Insufficient number of endpoints"
OVERLOADED = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"

_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")

Shares = Mapping[str, float]
"""Of each zone, its part of all processors; the parts are 1 together."""
Zones = Mapping[str, int]
"""Of each zone, how many endpoints have a hint for it."""


@dataclass(frozen=True, slots=True)
class Hinting:
    """What a Service's hints depend on beside its endpoints."""

    shares: Shares | None = None
    """None if they are not known."""
    was_hinted: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """An event about a Service whose hints are enabled or disabled."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str

    @classmethod
    def enabled(cls, family: str) -> Notice:
        return cls("Normal", "TopologyAwareHintsEnabled", f"{ENABLED}, addressType: {family}")

    @classmethod
    def disabled(cls, why: str, family: str) -> Notice:
        return cls("Warning", "TopologyAwareHintsDisabled", f"{why}, addressType: {family}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Service can have no hints."""

    message: str


@dataclass(frozen=True, slots=True)
class ZoneAllocation:
    """How many endpoints a zone needs at least, may have at most, and would have ideally."""

    minimum: int = 0
    maximum: int = 0
    desired: float = 0.0


def is_auto(service: Object) -> bool:
    """Whether the Service asks for hints by the zones' processors; the older annotation counts more."""
    annotations = annotations_of(service)
    return annotations.get(DEPRECATED_MODE, annotations.get(MODE)) in ("Auto", "auto")


# Nodes


def zone_shares(nodes: Iterable[Object]) -> dict[str, float] | None:
    """The zones' shares; None if they are not known of every ready node, or if there are fewer than two zones."""
    processors: Counter[str] = Counter()
    for node in nodes:
        if any(label in labels_of(node) for label in _CONTROL_PLANE) or not is_ready_node(node):
            continue
        zone, milli = labels_of(node).get(ZONE), _milli_processors(node)
        if not zone or not milli:
            return None
        processors[zone] += milli
    total = processors.total()
    return {zone: own / total for zone, own in processors.items()} if len(processors) > 1 else None


def _milli_processors(node: Object) -> int:
    return parse((status_of(node).get("allocatable") or {}).get("cpu") or "0").milli_value()


def moves_shares(old: Object, new: Object) -> bool:
    """Whether a change of a node is one that the shares follow."""
    return is_ready_node(old) != is_ready_node(new) or labels_of(old).get(ZONE) != labels_of(new).get(ZONE)


# Allocation


def allocate(endpoints: int, shares: Shares | None) -> dict[str, ZoneAllocation] | Refusal:
    """What each zone gets of so many ready endpoints."""
    if shares is None:
        return Refusal(NO_FACTS)
    counted = f"({endpoints} endpoints, {len(shares)} zones)"
    if len(shares) > endpoints:
        return Refusal(f"{TOO_FEW} {counted}")
    minimums = {zone: _minimum(endpoints * share) for zone, share in shares.items()}
    spare = endpoints - sum(minimums.values())
    if spare < 0:
        return Refusal(f"{OVERLOADED} {counted}")
    return {
        zone: ZoneAllocation(minimum, minimum + spare, max(endpoints * shares[zone], minimum))
        for zone, minimum in minimums.items()
    }


def _minimum(desired: float) -> int:
    return math.ceil(desired * (1 / (1 + OVERLOAD_THRESHOLD)))


def is_overloaded(zones: Zones, shares: Shares | None) -> bool:
    """Whether the hints that a Service has leave some zone with too few endpoints, now that the shares are these."""
    if not zones:
        return False
    total = sum(zones.values())
    return not shares or any(zones.get(zone, 0) < _minimum(total * share) for zone, share in shares.items())


# Hints


def add_hints(
    create: list[Object], update: list[Object], unchanged: Sequence[Object], shares: Shares | None
) -> Counter[str] | Refusal:
    """Give every ready endpoint one zone, and return how many each zone has.

    ``create`` and ``update`` are changed in place; slices of ``unchanged`` whose hints cannot stay join ``update`` as
    copies. After a refusal the slices have some hints, which the caller removes.
    """
    allocations = allocate(sum(len(ready_of(one)) for one in (*create, *update, *unchanged)), shares)
    if isinstance(allocations, Refusal):
        return allocations
    given: Counter[str] = Counter()
    for endpoint_slice in unchanged:
        kept = hints_by_zone(endpoint_slice, given, allocations)
        if kept is None:
            update.append(copy(endpoint_slice))
        else:
            given.update(kept)
    endpoints = [endpoint for endpoint_slice in (*create, *update) for endpoint in ready_of(endpoint_slice)]
    if not all(endpoint.get("zone") for endpoint in endpoints):
        return Refusal(NO_ZONE)
    for endpoint in endpoints:
        _hint(endpoint, endpoint["zone"])
    given.update(endpoint["zone"] for endpoint in endpoints)
    given.update(redistribute(endpoints, *giving_and_receiving(allocations, given)))
    return given


def ready_of(endpoint_slice: Object) -> list[Object]:
    return [endpoint for endpoint in endpoint_slice.get("endpoints") or () if hints.is_ready(endpoint)]


def _hint(endpoint: Object, zone: str) -> None:
    endpoint["hints"] = {"forZones": [{"name": zone}]}


def hints_by_zone(
    endpoint_slice: Object, given: Zones, allocations: Mapping[str, ZoneAllocation]
) -> Counter[str] | None:
    """How many hints the slice has for each zone; None if they cannot stay.

    That is: an endpoint has none, a zone needs none any more, or has more than it may, with those ``given`` before.
    """
    zones: Counter[str] = Counter()
    for endpoint in ready_of(endpoint_slice):
        names = [entry["name"] for entry in (endpoint.get("hints") or {}).get("forZones") or ()]
        if not names or any(name not in allocations for name in names):
            return None
        zones.update(names)
    if any(count + given.get(zone, 0) > allocations[zone].maximum for zone, count in zones.items()):
        return None
    return zones


def giving_and_receiving(
    allocations: Mapping[str, ZoneAllocation], given: Zones
) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone gives to others, and how many each gets; as few as will do."""
    surplus = {zone: given.get(zone, 0) - allocation.desired for zone, allocation in allocations.items()}
    giving: Counter[str] = Counter()
    receiving: Counter[str] = Counter()
    while surplus:
        giver, receiver = max(surplus, key=surplus.__getitem__), min(surplus, key=surplus.__getitem__)
        most, least = surplus[giver], -surplus[receiver]
        if min(most, least) < 0.5 or max(most, least) < 1.0:
            break
        surplus[giver] -= 1
        surplus[receiver] += 1
        giving[giver] += 1
        receiving[receiver] += 1
    return dict(giving), dict(receiving)


def redistribute(endpoints: Iterable[Object], giving: Mapping[str, int], receiving: Mapping[str, int]) -> Counter[str]:
    """Let endpoints of giving zones serve receiving ones; returns by how many each zone has more or less."""
    left = Counter(giving)
    takers = [zone for zone, count in receiving.items() for _ in range(count)]
    changes: Counter[str] = Counter()
    for endpoint in endpoints:
        if takers and left[endpoint["zone"]] > 0:
            left[endpoint["zone"]] -= 1
            taker = takers.pop()
            _hint(endpoint, taker)
            changes.update({taker: 1, endpoint["zone"]: -1})
    return changes
