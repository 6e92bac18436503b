"""Thresholds of eviction: as they are written, which are crossed, and since when. Pure.

A hard one counts at once, a soft one when it has been crossed for its grace period. What was crossed and counts goes on
counting until as much more is free again as is to be reclaimed at the least. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tiphys.kubelet.quantities import value

_NONE = ("0", "0%")


@dataclass(frozen=True, slots=True)
class Signal:
    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """``text`` and ``reclaim`` are as written, ``100Mi`` or ``10%``; ``grace`` is seconds, 0 for a hard one."""

    signal: str
    text: str
    grace: float = 0.0
    reclaim: str = "0"

    @property
    def is_hard(self) -> bool:
        return self.grace == 0

    def is_crossed(self, measured: Signal, *, before: bool = False) -> bool:
        """``before``: it was crossed, and counted."""
        least = amount(self.text, measured.capacity)
        return measured.available < least + (amount(self.reclaim, measured.capacity) if before else 0)


def amount(text: str, capacity: int) -> int:
    """In the signal's own unit."""
    return int(capacity * float(text[:-1]) / 100) if text.endswith("%") else value(text)


def kept_free(thresholds: Mapping[str, str], signal: str, capacity: int) -> int:
    """How much of ``capacity`` a threshold keeps free; 0 without one."""
    return amount(thresholds.get(signal, "0"), capacity)


def read_thresholds(
    hard: Mapping[str, str], soft: Mapping[str, str], graces: Mapping[str, float], reclaims: Mapping[str, str]
) -> tuple[Threshold, ...]:
    """Raises ``ValueError`` for a soft one without a grace period."""
    thresholds = [Threshold(name, text, 0.0, reclaims.get(name, "0")) for name, text in hard.items()]
    for name, text in soft.items():
        if name not in graces:
            raise ValueError(f"grace period must be specified for the soft eviction threshold {name}")
        thresholds.append(Threshold(name, text, graces[name], reclaims.get(name, "0")))
    return tuple(threshold for threshold in thresholds if threshold.text not in _NONE)


class ThresholdWatch:
    """Which thresholds are crossed, over time. ``order`` ranks signals: what is first is reclaimed first."""

    def __init__(self, thresholds: Iterable[Threshold], order: Callable[[Threshold], object]) -> None:
        self._thresholds = sorted(thresholds, key=order)  # type: ignore[arg-type]
        self._since: dict[Threshold, float] = {}
        self._counting: frozenset[Threshold] = frozenset()

    def look(self, signals: Mapping[str, Signal], now: float) -> tuple[list[Threshold], list[Threshold]]:
        """(all that are crossed, those that count), each in their order."""
        crossed = [t for t in self._thresholds if t.is_crossed(signals[t.signal], before=t in self._counting)]
        self._since = {threshold: self._since.get(threshold, now) for threshold in crossed}
        counting = [threshold for threshold in crossed if now - self._since[threshold] >= threshold.grace]
        self._counting = frozenset(counting)
        return crossed, counting
