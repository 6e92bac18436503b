"""Thresholds of eviction: as they are written, which are crossed, and since when. Pure.

A hard one counts at once, a soft one when it has been crossed for its grace period. What was crossed and counts goes on
counting until as much more is free again as is to be reclaimed at the least. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tiphys.api.meta.quantity import Format, Quantity
from tiphys.kubelet.node.signals import (
    CONTAINER_DISK,
    CONTAINER_INODES,
    IMAGE_DISK,
    IMAGE_INODES,
    MEMORY,
    NODE_DISK,
    NODE_INODES,
    PODS_MEMORY,
    RESOURCES,
    DiskLayout,
    urgency,
)
from tiphys.kubelet.quantities import value

_NONE = ("0%", "100%")
_CONTAINERS = {NODE_DISK: CONTAINER_DISK, NODE_INODES: CONTAINER_INODES}
_AS_IMAGES = {IMAGE_DISK: CONTAINER_DISK, IMAGE_INODES: CONTAINER_INODES}


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

    def quantity(self, capacity: int) -> str:
        """What is to be free at the least, as people read it."""
        if self.text.endswith("%"):
            return str(Quantity.of(amount(self.text, capacity), Format.BINARY_SI))
        return str(Quantity(self.text))


def share(text: str) -> float:
    """``10%`` as upstream has it: a number of single precision, so that both come to the same amount."""
    percent: float = struct.unpack("f", struct.pack("f", float(text.rstrip("%"))))[0]
    return float(struct.unpack("f", struct.pack("f", percent / 100))[0])


def amount(text: str, capacity: int) -> int:
    """In the signal's own unit."""
    return int(capacity * share(text)) if text.endswith("%") else value(text)


def kept_free(thresholds: Mapping[str, str], signal: str, capacity: int) -> int:
    """How much of ``capacity`` a threshold keeps free; 0 without one."""
    text = thresholds.get(signal, "0")
    return 0 if text in _NONE else amount(text, capacity)


def read_thresholds(
    hard: Mapping[str, str],
    soft: Mapping[str, str],
    graces: Mapping[str, float],
    reclaims: Mapping[str, str],
    *,
    pods_enforced: bool = False,
) -> tuple[Threshold, ...]:
    """``pods_enforced``: pods as a whole have a limit, so that memory may run short for them alone.

    Raises ``ValueError`` for what is not a threshold, and for a soft one without a grace period."""
    for name in (*hard, *soft, *graces, *reclaims):
        if name not in RESOURCES:
            raise ValueError(f"unsupported eviction signal {name}")
    for given in (hard, soft):
        for name, text in given.items():
            _check(name, text)
    for name, seconds in graces.items():
        if seconds < 0:
            raise ValueError(
                f"invalid eviction grace period specified: {seconds:g}s, must be a positive value ({name})"
            )
    for name, text in reclaims.items():
        _check_reclaim(name, text)
    thresholds = [Threshold(name, text, 0.0, reclaims.get(name, "0")) for name, text in hard.items()]
    for name, text in soft.items():
        if text not in _NONE and name not in graces:
            raise ValueError(f"grace period must be specified for the soft eviction threshold {name}")
        thresholds.append(Threshold(name, text, graces.get(name, 0.0), reclaims.get(name, "0")))
    if pods_enforced:
        thresholds += [replace(each, signal=PODS_MEMORY) for each in thresholds if _is_hard_memory(each)]
    return tuple(threshold for threshold in thresholds if threshold.text not in _NONE)


def _is_hard_memory(threshold: Threshold) -> bool:
    return threshold.signal == MEMORY and threshold.is_hard


def _check(name: str, text: str) -> None:
    if text.endswith("%"):
        if share(text) < 0:
            raise ValueError(f"eviction percentage threshold {name} must be >= 0%: {text}")
        if share(text) > 1:
            raise ValueError(f"eviction percentage threshold {name} must be <= 100%: {text}")
    elif Quantity(text).sign <= 0:
        raise ValueError(f"eviction threshold {name} must be positive: {Quantity(text)}")


def _check_reclaim(name: str, text: str) -> None:
    if text.endswith("%"):
        if share(text) <= 0:
            raise ValueError(f"eviction percentage minimum reclaim {name} must be positive: {text}")
    elif Quantity(text).sign < 0:
        raise ValueError(f"negative eviction minimum reclaim specified for {name}")


def for_layout(thresholds: Iterable[Threshold], layout: DiskLayout) -> tuple[Threshold, ...]:
    """With those of the containers' file system, which are always those of the file system that it is on: what was
    asked for in their name is passed over."""
    given = tuple(thresholds)
    if (like_nodes := layout.containers_like_nodes) is None:
        return given
    names = _CONTAINERS if like_nodes else _AS_IMAGES
    kept = [each for each in given if each.signal not in _CONTAINERS.values()]
    return (*kept, *(replace(each, signal=names[each.signal]) for each in kept if each.signal in names))


def met(thresholds: Iterable[Threshold], signals: Mapping[str, Signal], *, before: bool = False) -> list[Threshold]:
    """Those that are crossed; what is not measured is not."""
    return [t for t in thresholds if t.signal in signals and t.is_crossed(signals[t.signal], before=before)]


def describe_shortage(resource: str, thresholds: Iterable[Threshold], signals: Mapping[str, Signal]) -> str:
    """Upstream's words for how much there is of a resource, and should be; empty if no threshold is about it."""
    for threshold in thresholds:
        signal = signals.get(threshold.signal)
        if RESOURCES[threshold.signal] == resource and signal is not None:
            format = Format.DECIMAL_SI if resource in ("inodes", "pids") else Format.BINARY_SI
            available = Quantity.of(signal.available, format)
            return f"Threshold quantity: {threshold.quantity(signal.capacity)}, available: {available}. "
    return ""


class ThresholdWatch:
    """Which thresholds are crossed, over time, the most urgent first, and of one signal what is hard."""

    def __init__(self, thresholds: Iterable[Threshold]) -> None:
        self.thresholds: Sequence[Threshold] = sorted(thresholds, key=lambda t: (urgency(t.signal), not t.is_hard))
        self._since: dict[Threshold, float] = {}
        self._counting: frozenset[Threshold] = frozenset()

    def look(self, signals: Mapping[str, Signal], now: float) -> tuple[list[Threshold], list[Threshold]]:
        """(all that are crossed, those that count), each in their order."""
        crossed = [
            t
            for t in self.thresholds
            if t.signal in signals and t.is_crossed(signals[t.signal], before=t in self._counting)
        ]
        self._since = {threshold: self._since.get(threshold, now) for threshold in crossed}
        counting = [threshold for threshold in crossed if now - self._since[threshold] >= threshold.grace]
        self._counting = frozenset(counting)
        return crossed, counting
