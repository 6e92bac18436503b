"""Cron schedules: when is the next time. Pure.

The syntax is that of the API (five fields with names, lists, ranges and steps, ``?`` for ``*``, descriptors such as
``@hourly`` and ``@every 5m``). If both the day of the month and the day of the week are restricted, one match is
enough. Around a clock change the answers are those of the library that upstream uses (github.com/robfig/cron), the odd
ones included: users of the two see the same Jobs. `clock.py` has the arithmetic of the wall clock.

Every search ends: a step goes forward on the absolute time line, and none starts later than five years ahead.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax and crontab(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tiphys.controllers.cronjob.clock import HOUR, MINUTE, Wall, WallClock
from tiphys.runtime import durations
from tiphys.validation.batch.schedule import ScheduleError, schedule_problem

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = 5
"""How far ahead a time is searched for: 30 February never comes."""
_WALKED = 200
"""How many times one after another ``latest`` walks through: the minutes of a month would be 40,000."""


class Schedule(Protocol):
    def next(self, after: float) -> float | None:
        """The first time later than ``after``, in Unix seconds; None if five years bring none."""
        ...

    def latest(self, after: float, until: float) -> float | None:
        """The last time that is later than ``after`` and not later than ``until``; None if no time is between."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """``@every``: a fixed delay in whole seconds."""

    seconds: float

    def next(self, after: float) -> float | None:
        return float(int(after)) + self.seconds

    def latest(self, after: float, until: float) -> float | None:
        times = (until - int(after)) // self.seconds
        return int(after) + times * self.seconds if times >= 1 else None


@dataclass(frozen=True, slots=True)
class ScheduleField:
    """The values that match, and whether it was a bare star."""

    values: frozenset[int]
    star: bool


@dataclass(frozen=True, slots=True)
class Cron:
    minute: ScheduleField
    hour: ScheduleField
    day: ScheduleField
    month: ScheduleField
    weekday: ScheduleField
    zone: tzinfo

    def next(self, after: float) -> float | None:
        if not (self.minute.values and self.hour.values and self.month.values):
            return None
        return _Search(self, WallClock(self.zone)).run(int(after) + 1)

    def latest(self, after: float, until: float) -> float | None:
        """Walks from time to time if they are few, as upstream does; halves the span if they are many."""
        latest = None
        for _ in range(_WALKED):
            candidate = self.next(latest if latest is not None else after)
            if candidate is None or candidate > until:
                return latest
            latest = candidate
        return self._halved(latest, until) if latest is not None else None

    def _halved(self, latest: float, until: float) -> float:
        """The last time up to ``until``, of which ``latest`` is one."""
        while until - latest >= MINUTE:
            middle = (latest + until) // 2
            candidate = self.next(middle)
            if candidate is not None and candidate <= until:
                latest = candidate
            else:
                until = middle
        return latest

    def is_day(self, wall: Wall) -> bool:
        day = wall.day in self.day.values
        weekday = wall.isoweekday() % 7 in self.weekday.values
        if self.day.star or self.weekday.star:
            return day and weekday
        return day or weekday


class _Search:
    """One search for the next time: ``at`` is where it is (Unix seconds), ``wall`` what the wall clock shows there.

    The month, the day, the hour and the minute are looked for in turn, each from where the one before it ended. If one
    of them runs over into the next of the larger unit, the search starts over with the month.
    """

    def __init__(self, cron: Cron, clock: WallClock) -> None:
        self._cron, self._clock = cron, clock
        self._moved = False
        """Whether a unit has been changed: from then on the smaller ones are at their beginnings."""

    def run(self, start: int) -> float | None:
        if not self._clock.holds(start, _YEARS):
            return None
        self._go(start)
        last_year = self.wall.year + _YEARS
        while self.wall.year <= last_year:
            if self._month() and self._day() and self._hour() and self._minute() and self._second():
                return float(self.at)
        return None

    def _go(self, at: int) -> None:
        self.at, self.wall = at, self._clock.wall(at)

    def _begin(self, at: int) -> None:
        """At the first change, the smaller units start from their beginnings."""
        if not self._moved:
            self._moved = True
            self._go(at)

    def _month(self) -> bool:
        """Each of these five returns False if it ran over."""
        while self.wall.month not in self._cron.month.values:
            self._begin(self._clock.unix(self.wall.year, self.wall.month, 1))
            self._go(self._clock.next_month(self.wall))
            if self.wall.month == 1:
                return False
        return True

    def _day(self) -> bool:
        while not self._cron.is_day(self.wall):
            self._begin(self._clock.unix(self.wall.year, self.wall.month, self.wall.day))
            self._go(self._clock.next_day(self.wall))
            if hour := self.wall.hour:  # a day that begins later than midnight, or one that ended an hour early
                self._go(self.at + (24 - hour if hour > 12 else -hour) * HOUR)
            if self.wall.day == 1:
                return False
        return True

    def _hour(self) -> bool:
        while self.wall.hour not in self._cron.hour.values:
            self._begin(self._clock.unix(self.wall.year, self.wall.month, self.wall.day, self.wall.hour))
            self._go(self.at + HOUR)
            if self.wall.hour == 0:
                return False
        return True

    def _minute(self) -> bool:
        while self.wall.minute not in self._cron.minute.values:
            self._begin(self.at - self.at % MINUTE)
            self._go(self.at + MINUTE)
            if self.wall.minute == 0:
                return False
        return True

    def _second(self) -> bool:
        while self.wall.second:
            self._moved = True
            self._go(self.at + 1)
            if self.wall.second == 0:
                return False
        return True


def parse(text: str, zone: str | None = None) -> Schedule:
    """Raises ``ScheduleError`` with the API's message. ``zone`` is the CronJob's time zone; UTC by default."""
    location: tzinfo = UTC
    if text.startswith(("TZ=", "CRON_TZ=")):
        head, _, text = text.partition(" ")
        zone, text = head.partition("=")[2], text.strip()
    if zone:
        try:
            location = ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ScheduleError(f"provided bad location {zone}: unknown time zone {zone}") from error
    if problem := schedule_problem(text):
        raise ScheduleError(problem)
    if text.startswith("@every "):
        return Every(float(max(1, int(durations.seconds(text.removeprefix("@every "))))))
    minute, hour, day, month, weekday = _DESCRIPTORS.get(text, text).split()
    return Cron(
        _field(minute, 0, 59, {}),
        _field(hour, 0, 23, {}),
        _field(day, 1, 31, {}),
        _field(month, 1, 12, _MONTHS),
        _field(weekday, 0, 6, _DAYS),
        location,
    )


def _field(text: str, low: int, high: int, names: dict[str, int]) -> ScheduleField:
    values: set[int] = set()
    star = False
    for part in text.split(","):
        if not part:
            continue
        span, _, step_text = part.partition("/")
        first, dash, last = span.partition("-")
        step = int(step_text or 1)
        if first in ("*", "?"):
            start, end = low, high
            star = star or step == 1
        else:
            start = names[first.lower()] if first.lower() in names else int(first)
            end = start
            if dash:
                end = names[last.lower()] if last.lower() in names else int(last)
            elif step_text:
                end = high
        values.update(range(start, end + 1, step))
    return ScheduleField(frozenset(values), star)
