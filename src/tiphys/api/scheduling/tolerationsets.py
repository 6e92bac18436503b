"""Which toleration makes another one superfluous, for lists of them that are merged or held against an allow list.

Every question is answered from an index, so that the work grows with the number of tolerations only.
Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podtolerationrestriction
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tiphys.api.scheduling.taints import NO_EXECUTE, Toleration, toleration

_Slot = tuple[str, str, str, str]
"""Key, effect, operator, and the value if it counts."""


class TolerationSet:
    """Tolerations, and what they tolerate among other things."""

    def __init__(self, tolerations: Iterable[Toleration]) -> None:
        self._all: dict[Toleration, int] = {}
        self._widest: dict[_Slot, tuple[float, int]] = {}
        for number, each in enumerate(tolerations):
            rank = (_seconds(each), number)
            if each not in self._all:
                self._all[each] = number
                slot = _slot(each)
                self._widest[slot] = max(rank, self._widest.get(slot, rank))

    def covers(self, wanted: Toleration) -> bool:
        """Whether one of them tolerates all that ``wanted`` does."""
        return wanted in self._all or self.has_wider(wanted)

    def has_wider(self, wanted: Toleration) -> bool:
        """The same of another one. Of two that cover each other, the later one is the wider."""
        number = self._all.get(wanted, -1)
        own, at = _slot(wanted), _seconds_asked(wanted)
        for slot in _covering(wanted):
            widest = self._widest.get(slot)
            if widest is None:
                continue
            if slot == own:
                if widest[1] != number and widest >= (_seconds(wanted), number):
                    return True
            elif slot[1] != NO_EXECUTE or widest[0] >= at:
                return True
        return False


def merged(first: Iterable[Mapping[str, Any]], second: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Both lists in one, each toleration once, without those that another one covers."""
    every = [*first, *second]
    read = [toleration(each) for each in every]
    known, seen = TolerationSet(read), set[Toleration]()
    kept = []
    for each, one in zip(every, read, strict=True):
        if one not in seen and not known.has_wider(one):
            kept.append(each)
        seen.add(one)
    return kept


def _slot(one: Toleration) -> _Slot:
    return (one.key, one.effect, one.operator, "" if one.operator == "Exists" else one.value)


def _covering(wanted: Toleration) -> Iterator[_Slot]:
    """The slots whose tolerations may cover it."""
    effects = dict.fromkeys((wanted.effect, ""))
    for effect in effects:
        for key in dict.fromkeys((wanted.key, "")):
            yield (key, effect, "Exists", "")
        if wanted.operator == "Equal":
            yield (wanted.key, effect, "Equal", wanted.value)
            yield (wanted.key, effect, "", wanted.value)


def _seconds(one: Toleration) -> float:
    """How long it tolerates; for ever if that is not limited, and one length for all if it does not matter."""
    if one.effect != NO_EXECUTE or one.seconds is None:
        return math.inf
    return float(one.seconds)


def _seconds_asked(one: Toleration) -> float:
    return math.inf if one.seconds is None else float(one.seconds)
