"""In which order, and within which time, pods end when their node is shut down. Pure.

Source: https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.runtime.durations import seconds_text

_DEFAULT_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class Period:
    """Pods of ``priority`` and more, up to the next period's, have so many seconds to end."""

    priority: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Group:
    period: Period
    pods: Sequence[Pod]


def periods_of(by_priority: Sequence[Period], whole: float, critical: float) -> tuple[Period, ...]:
    """The periods, lowest priority first; empty if a shutdown is not waited for.

    ``whole`` and ``critical`` are the older way to say it, used if ``by_priority`` is empty: of the ``whole`` seconds
    the ``critical`` ones are for critical pods.
    """
    if by_priority:
        return tuple(sorted(by_priority, key=lambda period: period.priority))
    if whole == 0 or whole < critical:
        return ()
    return (Period(_DEFAULT_PRIORITY, int(whole - critical)), Period(pods.SYSTEM_CRITICAL_PRIORITY, int(critical)))


def total(periods: Sequence[Period]) -> int:
    """Seconds of all periods together."""
    return sum(period.seconds for period in periods)


def grouped(periods: Sequence[Period], running: Sequence[Pod]) -> list[Group]:
    """The groups that have pods, in the order in which they end. Pods below the lowest priority are of its group."""
    bounds = [period.priority for period in periods]
    members: list[list[Pod]] = [[] for _ in periods]
    for pod in running:
        priority = int(pod["spec"].get("priority") or 0)
        index = min(bisect_left(bounds, priority), len(bounds) - 1)
        if index > 0 and bounds[index] > priority:
            index -= 1
        members[index].append(pod)
    return [Group(period, ending) for period, ending in zip(periods, members, strict=True) if ending]


def grace_of(pod: Pod, period: Period) -> int:
    """Seconds that a pod has to end: its own grace period, but no more than its group has."""
    own = pod["spec"].get("terminationGracePeriodSeconds")
    return period.seconds if own is None else min(int(own), period.seconds)


def problems(by_priority: Sequence[Period], whole: float, critical: float) -> list[str]:
    """What is wrong with a configuration, in upstream's words. ``whole`` and ``critical`` as in ``periods_of``."""
    prefix, errors = "invalid configuration:", list[str]()
    names = ("shutdownGracePeriod", "shutdownGracePeriodCriticalPods")
    shown = ["{" + seconds_text(seconds) + "}" for seconds in (whole, critical)]
    if critical > whole:
        errors.append(f"{prefix} {names[1]} {shown[1]} must be <= {names[0]} {shown[0]}")
    for name, seconds, text in zip(names, (whole, critical), shown, strict=True):
        if seconds < 0 or 0 < seconds < 1:
            errors.append(f"{prefix} {name} {text} must be either zero or otherwise >= 1 sec")
    if by_priority and (whole > 0 or critical > 0):
        message = "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
        errors.append(f"{prefix} {message}")
    return errors


def read_periods(given: Any) -> tuple[Period, ...]:
    """``shutdownGracePeriodByPodPriority`` of a configuration. Raises ``ValueError``."""
    periods = []
    for entry in given:
        if unknown := set(entry) - {"priority", "shutdownGracePeriodSeconds"}:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}; there are priority and shutdownGracePeriodSeconds")
        priority, seconds = entry.get("priority", 0), entry.get("shutdownGracePeriodSeconds", 0)
        if type(priority) is not int or type(seconds) is not int:
            raise ValueError("priority and shutdownGracePeriodSeconds are whole numbers")
        periods.append(Period(priority, seconds))
    return tuple(periods)
