"""Cron schedules: when is the next time. Pure.

The syntax is that of the API (five fields with names, lists, ranges and steps, ``?`` for ``*``, descriptors such as
``@hourly`` and ``@every 5m``). Where both the day of the month and the day of the week are restricted, one match is
enough. Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax and crontab(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tiphys.runtime.flags import parse_duration
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


class Schedule(Protocol):
    def next(self, after: float) -> float | None:
        """The first time later than ``after``, in Unix seconds; None where there is none in five years."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """``@every``: a fixed delay in whole seconds."""

    seconds: float

    def next(self, after: float) -> float | None:
        return float(int(after)) + self.seconds


@dataclass(frozen=True, slots=True)
class Field:
    """The values that match, and whether it was a bare star."""

    values: frozenset[int]
    star: bool


@dataclass(frozen=True, slots=True)
class Cron:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    zone: tzinfo

    def next(self, after: float) -> float | None:
        moment = datetime.fromtimestamp(int(after) + 1, self.zone)
        if moment.second:
            moment = self._plus(moment.replace(second=0), 60)
        limit = moment.year + _YEARS
        while moment.year <= limit:
            if moment.month not in self.month.values:
                first = moment.replace(day=1, hour=0, minute=0)
                moment = self._at((first + timedelta(days=32)).replace(day=1))
            elif not self._is_day(moment):
                moment = self._at(moment.replace(hour=0, minute=0) + timedelta(days=1))
            elif moment.hour not in self.hour.values:
                moment = self._plus(moment.replace(minute=0), 3600)
            elif moment.minute not in self.minute.values:
                moment = self._plus(moment, 60)
            else:
                return moment.timestamp()
        return None

    def _is_day(self, moment: datetime) -> bool:
        day = moment.day in self.day.values
        weekday = moment.isoweekday() % 7 in self.weekday.values
        if self.day.star or self.weekday.star:
            return day and weekday
        return day or weekday

    def _plus(self, moment: datetime, seconds: int) -> datetime:
        """``seconds`` later on the absolute time line, which is not always so on the wall clock."""
        return datetime.fromtimestamp(moment.timestamp() + seconds, self.zone)

    def _at(self, moment: datetime) -> datetime:
        """A wall-clock time; one that daylight saving leaves out becomes the one after."""
        return datetime.fromtimestamp(moment.timestamp(), self.zone)


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
        return Every(float(max(1, int(parse_duration(text.removeprefix("@every "))))))
    minute, hour, day, month, weekday = _DESCRIPTORS.get(text, text).split()
    return Cron(
        _field(minute, 0, 59, {}),
        _field(hour, 0, 23, {}),
        _field(day, 1, 31, {}),
        _field(month, 1, 12, _MONTHS),
        _field(weekday, 0, 6, _DAYS),
        location,
    )


def _field(text: str, low: int, high: int, names: dict[str, int]) -> Field:
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
    return Field(frozenset(values), star)
