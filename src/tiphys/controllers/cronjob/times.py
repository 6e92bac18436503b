"""Which scheduled time of a CronJob is due, and how long until the next: pure decisions.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#cron-job-limitations
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    parse_time,
    status_of,
)
from tiphys.controllers.cronjob.schedule import Schedule

DELTA = 0.1
"""Seconds that are added to a wait, so that it does not end just before the scheduled time."""
MANY_MISSED = 100


class ImpossibleSchedule(ValueError):
    """The schedule never comes, or has two times less than a second apart."""

    def __init__(self) -> None:
        super().__init__("time difference between two schedules is less than 1 second")


@dataclass(frozen=True, slots=True)
class Due:
    """The last scheduled time that has come (None if none has since ``earliest``), and how many have."""

    earliest: float
    time: float | None
    missed: int


def most_recent(cron_job: Object, schedule: Schedule, now: float, *, with_deadline: bool) -> Due:
    """Raises ``ImpossibleSchedule``."""
    earliest = parse_time(cron_job["metadata"].get("creationTimestamp")) or 0.0
    last = parse_time(status_of(cron_job).get("lastScheduleTime"))
    if last is not None:
        earliest = last
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if with_deadline and deadline is not None:
        earliest = max(earliest, now - int(deadline))
    first = schedule.next(earliest)
    if first is None:
        raise ImpossibleSchedule
    if now < first:
        return Due(earliest, None, 0)
    second = schedule.next(first)
    if second is None:
        raise ImpossibleSchedule
    if now < second:
        return Due(earliest, first, 0)
    between = round(second - first)
    if between < 1:
        raise ImpossibleSchedule
    missed = int(now - first) // between + 1
    return Due(earliest, schedule.latest(first + (missed - 2) * between, now), missed)


def wait_for_next(cron_job: Object, schedule: Schedule, now: float) -> float | None:
    """Seconds until just after the next scheduled time; None if no time comes."""
    try:
        due = most_recent(cron_job, schedule, now, with_deadline=False)
    except ImpossibleSchedule:
        base = now
    else:
        base = due.time if due.time is not None else (due.earliest if due.missed == 0 else now)
    following = schedule.next(base)
    return None if following is None else following + DELTA - now
