"""How far and how fast the number of replicas may follow what the metrics ask for.

Source: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#configurable-scaling-behavior
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.api.object import Object

LONGEST_WINDOW = 3600.0
"""What the API allows for a stabilization window, and more than it allows for a policy's period."""

_UP_FACTOR, _UP_LEAST = 2, 4
_IN_RANGE = ("DesiredWithinRange", "the desired count is within the acceptable range")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
_DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
_UP_STABLE = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
_DOWN_STABLE = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_READY = ("ReadyForNewScale", "recommended size matches current size")

ReasonAndMessage = tuple[str, str]
"""Reason and message of a condition."""


@dataclass(slots=True)
class History:
    """Of one autoscaler: what was recommended, and what was changed, each with its time."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)

    def recommend(self, replicas: int, now: float) -> None:
        self.recommendations = [(at, n) for at, n in self.recommendations if at >= now - LONGEST_WINDOW]
        self.recommendations.append((now, replicas))

    def scaled(self, before: int, after: int, now: float) -> None:
        self.ups = [(at, n) for at, n in self.ups if at >= now - LONGEST_WINDOW]
        self.downs = [(at, n) for at, n in self.downs if at >= now - LONGEST_WINDOW]
        (self.ups if after > before else self.downs).append((now, abs(after - before)))


@dataclass(frozen=True, slots=True)
class Bounds:
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """``able`` and ``limited`` are what the conditions AbleToScale and ScalingLimited report."""

    replicas: int
    able: ReasonAndMessage
    limited: ReasonAndMessage
    is_limited: bool


def decide(
    history: History, current: int, wanted: int, bounds: Bounds, behavior: Object | None, window: float, now: float
) -> ScalingDecision:
    """The number of replicas to set; notes ``wanted`` in the history. ``window`` is for scaling down by default."""
    if behavior is None:
        stable = max([wanted, *(n for at, n in history.recommendations if at >= now - window)])
        able = _DOWN_STABLE
    else:
        stable = _stabilized(history, current, wanted, behavior, window, now)
        able = _UP_STABLE if wanted >= current else _DOWN_STABLE
    history.recommend(wanted, now)
    if behavior is None:
        replicas, limited = _within_rules(current, stable, bounds)
    else:
        replicas, limited = _within_rates(history, current, stable, bounds, behavior, now)
    return ScalingDecision(replicas, _READY if stable == wanted else able, limited, replicas != stable)


def _stabilized(history: History, current: int, wanted: int, behavior: Object, window: float, now: float) -> int:
    """As near to the present number as the recommendations of both windows allow."""
    up_window = behavior["scaleUp"].get("stabilizationWindowSeconds") or 0
    down_window = behavior["scaleDown"].get("stabilizationWindowSeconds")
    down_window = window if down_window is None else down_window
    up = min([wanted, *(n for at, n in history.recommendations if at > now - up_window)])
    down = max([wanted, *(n for at, n in history.recommendations if at > now - down_window)])
    return min(max(current, up), down)


def _within_rules(current: int, wanted: int, bounds: Bounds) -> tuple[int, ReasonAndMessage]:
    limit = max(_UP_FACTOR * current, _UP_LEAST)
    most, why = (limit, _UP_LIMIT) if bounds.most > limit else (bounds.most, _TOO_MANY)
    if wanted < bounds.least:
        return bounds.least, _TOO_FEW
    if wanted > most:
        return most, why
    return wanted, _IN_RANGE


def _within_rates(
    history: History, current: int, wanted: int, bounds: Bounds, behavior: Object, now: float
) -> tuple[int, ReasonAndMessage]:
    if wanted > current:
        limit = max(_limit(history, current, behavior["scaleUp"], +1, now), current)
        most, why = (limit, _UP_LIMIT) if bounds.most > limit else (bounds.most, _TOO_MANY)
        if wanted > most:
            return most, why
    elif wanted < current:
        limit = min(_limit(history, current, behavior["scaleDown"], -1, now), current)
        least, why = (limit, _DOWN_LIMIT) if bounds.least < limit else (bounds.least, _TOO_FEW)
        if wanted < least:
            return least, why
    return wanted, _IN_RANGE


def _limit(history: History, current: int, rules: Object, direction: int, now: float) -> int:
    """The number that the policies allow, in their periods, to go to in ``direction``."""
    choice = rules.get("selectPolicy") or "Max"
    if choice == "Disabled":
        return current
    limits: list[int] = []
    for policy in rules.get("policies") or ():
        since = now - policy["periodSeconds"]
        start = current - _sum_since(history.ups, since) + _sum_since(history.downs, since)
        if policy["type"] == "Pods":
            limits.append(start + direction * policy["value"])
        elif direction > 0:
            limits.append(math.ceil(start * (1 + policy["value"] / 100)))
        else:
            limits.append(int(start * (1 - policy["value"] / 100)))
    highest = (choice == "Max") == (direction > 0)
    return max(limits) if highest else min(limits)


def _sum_since(changes: Iterable[tuple[float, int]], since: float) -> int:
    return sum(change for at, change in changes if at > since)
