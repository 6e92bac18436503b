"""Which devices a node can reach, by pool, as ResourceSlices describe them. Pure.

A pool is described by as many slices as each of them says, all of one generation. Fewer, and it is incomplete: the
driver is about to change it. Pools and slices come in the order of their names, so that drivers can say which is first.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ (KEP-4381, KEP-4815)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tiphys.api.meta.quantity import parse
from tiphys.api.object import Object
from tiphys.api.scheduling.nodeselector import node_term
from tiphys.client.informer import Store

_BY_NODE, _BY_POOL = "slice-node", "slice-pool"

Counters = dict[str, dict[str, int]]
"""Amounts in billionths, by counter set and counter."""


class Reached(Protocol):
    """A node, as far as it decides about devices."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> Mapping[str, str]: ...


class DeviceId(NamedTuple):
    driver: str
    pool: str
    device: str

    def __str__(self) -> str:
        return "/".join(self)


@dataclass(slots=True, eq=False)
class Candidate:
    """A device of a pool, and the slice that has it."""

    id: DeviceId
    device: Object
    slice: Object
    pool: Pool

    @property
    def shared(self) -> bool:
        """Whether several claims may have it at once."""
        return bool(self.device.get("allowMultipleAllocations"))


@dataclass(slots=True, eq=False)
class Pool:
    driver: str
    name: str
    incomplete: bool = False
    invalid: str = ""
    """Why nothing of it can be used."""
    candidates: list[Candidate] = field(default_factory=list)
    elsewhere: list[Candidate] = field(default_factory=list)
    """Devices that the node does not reach; they may use up counters of the pool."""
    counters: Counters = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.driver}/{self.name}"

    @property
    def usable(self) -> bool:
        return not self.incomplete and not self.invalid

    @property
    def conditional(self) -> bool:
        """Whether pods have to wait for some device of it; such pools come last."""
        return any(c.device.get("bindingConditions") is not None for c in self.candidates)


class SliceIndex:
    """The slices, by whom they concern: through indexes of the informer's copy, so that nobody looks at all of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        if not store.has_index(_BY_NODE):
            store.add_index(_BY_NODE, lambda one: (_node_of(one),))
            store.add_index(_BY_POOL, lambda one: ("/".join(_pool_key(one)),))

    def pools(self, node: Reached) -> list[Pool]:
        """What the node reaches, in the order in which it is to be used."""
        groups: dict[tuple[str, str], list[Object]] = {}
        for one in (*self._store.by_index(_BY_NODE, node.name), *self._store.by_index(_BY_NODE, "")):
            if _concerns(one, node):
                _add(groups, one)
        pools = [made for key, slices in groups.items() if (made := self._pool(key, slices)) is not None]
        return sorted(pools, key=lambda pool: (pool.conditional, pool.driver, pool.name))

    def _pool(self, key: tuple[str, str], slices: list[Object]) -> Pool | None:
        """None if the slices that concern the node are of a generation that is being replaced."""
        pool = slices[0]["spec"]["pool"]
        generation, wanted = pool.get("generation") or 0, pool["resourceSliceCount"]
        others: list[Object] = []
        if len(slices) != wanted:
            everywhere = self._store.by_index(_BY_POOL, "/".join(key))
            if any((one["spec"]["pool"].get("generation") or 0) > generation for one in everywhere):
                return None
            same = [one for one in everywhere if (one["spec"]["pool"].get("generation") or 0) == generation]
            if len(same) != wanted:
                return Pool(*key, incomplete=True)
            names = {one["metadata"]["name"] for one in slices}
            others = [one for one in same if one["metadata"]["name"] not in names]
        return _built(key, sorted(slices, key=lambda one: str(one["metadata"]["name"])), others)


def _node_of(one: Object) -> str:
    """The only node that a slice concerns; empty if it may concern several."""
    spec = one["spec"]
    return "" if spec.get("sharedCounters") else spec.get("nodeName") or ""


def _pool_key(one: Object) -> tuple[str, str]:
    return one["spec"]["driver"], one["spec"]["pool"]["name"]


def _add(groups: dict[tuple[str, str], list[Object]], one: Object) -> None:
    """A slice of a newer generation replaces those of an older one."""
    group = groups.setdefault(_pool_key(one), [])
    generation = one["spec"]["pool"].get("generation") or 0
    known = (group[0]["spec"]["pool"].get("generation") or 0) if group else generation
    if generation > known:
        group.clear()
    if generation >= known:
        group.append(one)


def _concerns(one: Object, node: Reached) -> bool:
    spec = one["spec"]
    if spec.get("sharedCounters"):
        return True
    if spec.get("nodeName") or spec.get("allNodes") or spec.get("nodeSelector") is not None:
        return reaches(spec, node)
    return bool(spec.get("perDeviceNodeSelection")) and any(reaches(d, node) for d in spec.get("devices") or ())


def reaches(spec: Object, node: Reached) -> bool:
    """Whether ``nodeName``, ``allNodes`` or ``nodeSelector`` of a slice or a device let it be used from a node."""
    if spec.get("nodeName"):
        return bool(spec["nodeName"] == node.name)
    if spec.get("allNodes"):
        return True
    terms = (spec.get("nodeSelector") or {}).get("nodeSelectorTerms") or ()
    return any(node_term(term).matches(node.name, node.labels) for term in terms)


def _built(key: tuple[str, str], slices: Sequence[Object], others: Sequence[Object]) -> Pool:
    pool = Pool(*key)
    pool.candidates = list(_candidates(pool, (one for one in slices if not one["spec"].get("sharedCounters"))))
    pool.elsewhere = list(_candidates(pool, others))
    pool.invalid = (
        _twice("device name", (candidate.id.device for candidate in pool.candidates))
        or _twice("counter set name", (counted["name"] for counted in _counter_sets(slices)))
        or _fill_counters(pool, slices)
    )
    return pool


def _candidates(pool: Pool, slices: Iterable[Object]) -> Iterator[Candidate]:
    for one in slices:
        for device in one["spec"].get("devices") or ():
            yield Candidate(DeviceId(pool.driver, pool.name, device["name"]), device, one, pool)


def _counter_sets(slices: Iterable[Object]) -> Iterator[Object]:
    for one in slices:
        yield from one["spec"].get("sharedCounters") or ()


def _twice(what: str, names: Iterable[str]) -> str:
    known: set[str] = set()
    for name in names:
        if name in known:
            return f"duplicate {what} {name}"
        known.add(name)
    return ""


def _fill_counters(pool: Pool, slices: Sequence[Object]) -> str:
    """Read the pool's counters; returns why it is invalid, if a device uses one that is not there."""
    for counted in _counter_sets(slices):
        pool.counters[counted["name"]] = amounts(counted.get("counters"))
    for candidate in (*pool.candidates, *pool.elsewhere):
        for used in candidate.device.get("consumesCounters") or ():
            known = pool.counters.get(used["counterSet"])
            if known is None:
                return f"counter set {used['counterSet']} not found"
            for name in used.get("counters") or ():
                if name not in known:
                    return f"counter {name} not found in counter set {used['counterSet']}"
    return ""


def amounts(counters: Mapping[str, Object] | None) -> dict[str, int]:
    """``{name: {value: quantity}}`` in billionths."""
    return {name: parse(counter["value"]).nano for name, counter in (counters or {}).items()}
