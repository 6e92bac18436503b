"""The priority levels of a server: their seats, which they lend and borrow, and their queues.

Source: https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/priority-level-configuration-v1/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tiphys.api.object import Object
from tiphys.apiserver.flowcontrol.allocation import Share, allocate
from tiphys.apiserver.flowcontrol.demand import Demand
from tiphys.apiserver.flowcontrol.queueset import QueueConfig, QueueSet, Queuing

_DEFAULT_SHARES = 30


class LevelConfig(NamedTuple):
    """``shares`` of the server's seats; ``lendable`` and ``borrowing`` in percent of them, None: no limit."""

    name: str
    uid: str
    queue: QueueConfig
    shares: int
    lendable: int = 0
    borrowing: int | None = None

    @property
    def exempt(self) -> bool:
        return self.queue.queuing is Queuing.EXEMPT


class Limits(NamedTuple):
    """Seats of a level."""

    nominal: int
    minimum: int
    maximum: int


class PriorityLevel:
    """One level at work. One whose configuration is gone is ``quiescing``: it vanishes when it is idle."""

    def __init__(self, config: LevelConfig, limits: Limits, now: float) -> None:
        self.config = config
        self.limits = limits
        self.current = limits.nominal
        self.quiescing = False
        self.demand = Demand(now)
        self.queues = QueueSet(config.queue, self.current, now, self.demand.note)


def read_level(obj: Object) -> LevelConfig:
    """A PriorityLevelConfiguration of flowcontrol.apiserver.k8s.io/v1."""
    meta, spec = obj["metadata"], obj["spec"]
    name, uid = meta["name"], meta.get("uid", "")
    if spec["type"] == "Exempt":
        exempt = spec.get("exempt") or {}
        shares, lendable = exempt.get("nominalConcurrencyShares") or 0, exempt.get("lendablePercent") or 0
        return LevelConfig(name, uid, QueueConfig(Queuing.EXEMPT), shares, lendable)
    limited = spec.get("limited") or {}
    shares = limited.get("nominalConcurrencyShares")
    response = limited.get("limitResponse") or {}
    queue = QueueConfig(Queuing.REJECT)
    if response.get("type") == "Queue":
        queuing = response.get("queuing") or {}
        queue = QueueConfig(
            Queuing.QUEUE, queuing.get("queues", 64), queuing.get("handSize", 8), queuing.get("queueLengthLimit", 50)
        )
    return LevelConfig(
        name,
        uid,
        queue,
        _DEFAULT_SHARES if shares is None else shares,
        limited.get("lendablePercent") or 0,
        limited.get("borrowingLimitPercent"),
    )


def limits_of(configs: Iterable[LevelConfig], total: int) -> dict[str, Limits]:
    """The seats of each level, by name: its share of ``total``, what is left if it lends all it may, and the most."""
    rows = list(configs)
    shares = sum(config.shares for config in rows) or 1
    limits = {}
    for config in rows:
        nominal = math.ceil(total * config.shares / shares)
        lendable = _rounded(nominal * config.lendable / 100)
        borrowed = total if config.borrowing is None else _rounded(nominal * config.borrowing / 100)
        limits[config.name] = Limits(nominal, nominal - lendable, nominal + borrowed)
    return limits


def _rounded(seats: float) -> int:
    """As Go rounds: a half is rounded up."""
    return math.floor(seats + 0.5)


def adjust(levels: Mapping[str, PriorityLevel], now: float) -> None:
    """Redivide the seats by what each level wanted in the last period; what the levels are set to takes effect."""
    for level in levels.values():
        level.demand.close_period(now)
    total = remaining = sum(level.limits.nominal for level in levels.values())
    for level in levels.values():
        if level.config.exempt:
            level.current = max(level.limits.minimum, level.demand.high)
            remaining -= level.current
    limited = [level for level in levels.values() if not level.config.exempt]
    for level, seats in zip(limited, _divide(limited, total, remaining), strict=True):
        level.current = seats
    for level in levels.values():
        level.queues.configure(level.config.queue, level.current, now)


def _divide(levels: list[PriorityLevel], total: int, remaining: int) -> list[int]:
    """The seats of the levels that have a limit. What exempt ones use leaves ``remaining`` of ``total``, which counts
    if that is not enough, as upstream has it."""
    floors = [max(row.limits.minimum, min(row.limits.nominal, row.demand.high)) for row in levels]
    minimum, wanted = sum(row.limits.minimum for row in levels), sum(floors)
    if remaining <= minimum:
        return [level.limits.minimum for level in levels]
    if remaining <= wanted:
        part = (remaining - minimum) / (wanted - minimum)
        return [
            level.limits.minimum + _rounded((floor - level.limits.minimum) * part)
            for level, floor in zip(levels, floors, strict=True)
        ]
    shares = [
        Share(max(floor, level.demand.smoothed), floor, level.limits.maximum)
        for level, floor in zip(levels, floors, strict=True)
    ]
    return [_rounded(seats) for seats in allocate(total, shares)]
