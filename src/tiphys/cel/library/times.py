"""Durations and timestamps from text, and the parts of a timestamp in a time zone.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from tiphys.cel.checking.declarations import Library, Overload, member
from tiphys.cel.values import CelError, Duration, Timestamp, type_of
from tiphys.runtime import durations
from tiphys.runtime.durations import DurationError

_NANO = 10**9
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))\Z", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _wrong(value: Any, wanted: str) -> CelError:
    return CelError(f"type conversion error from '{type_of(value).name}' to 'google.protobuf.{wanted}'")


def to_duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if not isinstance(value, str):
        raise _wrong(value, "Duration")
    try:
        return Duration(durations.parse(value))
    except (DurationError, CelError):
        raise _wrong(value, "Duration") from None


def to_timestamp(value: Any) -> Timestamp:
    """The timestamp for an RFC 3339 text or for seconds since the epoch. Raises ``CelError`` for anything else."""
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Timestamp(value * _NANO)
    match = _TIMESTAMP.match(value) if isinstance(value, str) else None
    if match is None:
        raise _wrong(value, "Timestamp")
    *numbers, fraction, sign, hours, minutes = match.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    offset = 0
    if sign:
        offset = (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60)
        if int(hours) > 24 or int(minutes) >= 60:
            raise _wrong(value, "Timestamp")
    try:
        # The year nought is a year there, but none of Python's: what it would be is out of range anyway.
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise _wrong(value, "Timestamp") from None
    seconds = int((moment - _EPOCH).total_seconds()) - offset
    return Timestamp(seconds * _NANO + int(f"{fraction or 0:0<9}"[:9]), offset)


def _zone(name: str) -> tzinfo:
    hours, colon, minutes = name.partition(":")
    if colon:
        try:
            total = int(hours) * 60 + (-int(minutes) if name.startswith("-") else int(minutes))
        except ValueError:
            wrong = minutes if hours.lstrip("+-").isdigit() else hours
            raise CelError(f'strconv.Atoi: parsing "{wrong}": invalid syntax') from None
        return timezone(timedelta(minutes=total))
    if name in ("", "UTC"):
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


def _of_timestamp(part: Callable[[datetime], int]) -> Callable[..., int]:
    def run(moment: Timestamp, zone: str = "UTC") -> int:
        return part(moment.at(_zone(zone)))

    return run


def _milliseconds(moment: Timestamp, zone: str = "UTC") -> int:
    _zone(zone)
    return moment.nanos % _NANO // 10**6


_PARTS: dict[str, tuple[str, Callable[[datetime], int]]] = {
    "getFullYear": ("year", lambda t: t.year),
    "getMonth": ("month", lambda t: t.month - 1),
    "getDayOfYear": ("day_of_year", lambda t: t.timetuple().tm_yday - 1),
    "getDayOfMonth": ("day_of_month", lambda t: t.day - 1),
    "getDate": ("day_of_month_1_based", lambda t: t.day),
    "getDayOfWeek": ("day_of_week", lambda t: t.isoweekday() % 7),
    "getHours": ("hours", lambda t: t.hour),
    "getMinutes": ("minutes", lambda t: t.minute),
    "getSeconds": ("seconds", lambda t: t.second),
}
_OF_DURATION = {"hours": 3600 * _NANO, "minutes": 60 * _NANO, "seconds": _NANO, "milliseconds": 10**6}


def _whole(unit: int) -> Callable[[Duration], int]:
    def run(value: Duration) -> int:
        count = abs(value.nanos) // unit
        return -count if value.nanos < 0 else count

    return run


def _overloads() -> list[Overload]:
    overloads = list[Overload]()
    for function, (name, part) in _PARTS.items():
        run = _of_timestamp(part)
        overloads.append(member(f"timestamp_to_{name}", function, "timestamp -> int", run))
        # The name of this one in upstream lacks a word.
        with_zone = "timestamp_to_seconds_tz" if name == "seconds" else f"timestamp_to_{name}_with_tz"
        overloads.append(member(with_zone, function, "timestamp, string -> int", run))
    overloads.append(member("timestamp_to_milliseconds", "getMilliseconds", "timestamp -> int", _milliseconds))
    signature = "timestamp, string -> int"
    overloads.append(member("timestamp_to_milliseconds_with_tz", "getMilliseconds", signature, _milliseconds))
    for name, unit in _OF_DURATION.items():
        function = f"get{name.capitalize()}"
        overloads.append(member(f"duration_to_{name}", function, "duration -> int", _whole(unit)))
    return overloads


LIBRARY = Library(_overloads())
