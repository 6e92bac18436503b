"""What pods put into the sets and maps of the table, and what of it the kernel has (pure).

Several pods may want one element: two share an address for a moment when it is given out again. It stays as long as one
of them does; of two verdicts the first by name counts.

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.proxy.policy.names import TABLE, Key
from tiphys.proxy.state import Family

Placed = frozenset[tuple[str, str]]
"""Keys of elements of one set or map, each with a map's verdict (empty in a set)."""
NOTHING: Placed = frozenset()
_Place = tuple[str, str]
"""The set or map, and the key in it."""


@dataclass(slots=True)
class Elements:
    """``give`` takes what one pod wants in one container; ``lines`` returns the commands since the last call."""

    family: Family
    turned: set[str] = field(default_factory=set)
    """Verdicts that gained their first element, or lost their last, since the caller looked."""
    _given: dict[Key, dict[str, Placed]] = field(default_factory=dict)
    _holders: dict[str, set[Key]] = field(default_factory=dict)
    _wanted: dict[_Place, Counter[str]] = field(default_factory=dict)
    _leading: Counter[str] = field(default_factory=Counter)
    _written: dict[_Place, str] = field(default_factory=dict)
    _touched: set[_Place] = field(default_factory=set)

    def give(self, key: Key, container: str, placed: Placed) -> None:
        """Make ``placed`` all that the pod ``key`` has in ``container``."""
        mine = self._given.get(key, {})
        old = mine.get(container, NOTHING)
        if old == placed:
            return
        for place, verdict in old - placed:
            self._drop((container, place), verdict)
        for place, verdict in placed - old:
            self._add((container, place), verdict)
        if placed:
            self._given.setdefault(key, {})[container] = placed
            self._holders.setdefault(container, set()).add(key)
        else:
            del mine[container]
            self._holders[container].discard(key)

    def give_all(self, key: Key, wanted: Mapping[str, Placed]) -> None:
        """Make ``wanted`` all that the pod has in any container."""
        for container in self._given.get(key, {}).keys() - wanted.keys():
            self.give(key, container, NOTHING)
        for container, placed in wanted.items():
            self.give(key, container, placed)
        if not wanted:
            self._given.pop(key, None)

    def holders(self, container: str) -> set[Key]:
        """The pods that have something in a container."""
        return set(self._holders.get(container, ()))

    def leads_to(self, verdict: str) -> bool:
        return self._leading[verdict] > 0

    def forget_written(self) -> None:
        """The kernel's table is empty: everything has to be written."""
        self._written.clear()
        self._touched = set(self._wanted)

    def lines(self, removed: Collection[str]) -> list[str]:
        """Commands for what changed. Elements of ``removed`` sets go with them, and are not deleted one by one."""
        added: list[tuple[_Place, str]] = []
        deleted: list[tuple[_Place, str]] = []
        for place in sorted(self._touched):
            present = self._written.pop(place, None)
            wanted = min(self._wanted.get(place, ()), default=None)
            if wanted is not None:
                self._written[place] = wanted
            if present == wanted:
                continue
            if present is not None and place[0] not in removed:
                deleted.append((place, present))
            if wanted is not None:
                added.append((place, wanted))
        self._touched.clear()
        return [*_batched("delete", self.family, deleted), *_batched("add", self.family, added)]

    def _add(self, place: _Place, verdict: str) -> None:
        self._wanted.setdefault(place, Counter())[verdict] += 1
        self._touched.add(place)
        self._leading[verdict] += 1
        if self._leading[verdict] == 1:
            self.turned.add(verdict)

    def _drop(self, place: _Place, verdict: str) -> None:
        verdicts = self._wanted[place]
        verdicts[verdict] -= 1
        if not verdicts[verdict]:
            del verdicts[verdict]
        if not verdicts:
            del self._wanted[place]
        self._touched.add(place)
        self._leading[verdict] -= 1
        if not self._leading[verdict]:
            del self._leading[verdict]
            self.turned.add(verdict)


def _batched(verb: str, family: Family, elements: Iterable[tuple[_Place, str]]) -> list[str]:
    """One command for all elements of a set or map."""
    by_container: dict[str, list[str]] = {}
    for (container, key), verdict in elements:
        text = f"{key} : {verdict}" if verdict and verb == "add" else key
        by_container.setdefault(container, []).append(text)
    return [f"{verb} element {family} {TABLE} {name} {{ {', '.join(keys)} }}" for name, keys in by_container.items()]
