"""Cron schedules: is this one, and if not, why not.

Source: the crontab(5) format with the descriptors ``@hourly``, ``@every 5m`` and so on, and the messages of the parser
that the API has always used (github.com/robfig/cron).
"""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tiphys.api.gotext import quote
from tiphys.runtime import durations

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: i for i, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: i for i, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_NUMBER_RE = re.compile(r"[+-]?[0-9]+")
_MAX_INT64 = 2**63 - 1


class ScheduleError(ValueError):
    """The text is not a schedule; the message is the API's."""


def schedule_problem(text: str) -> str:
    """Empty if the text is a schedule."""
    try:
        _check(text)
    except ScheduleError as error:
        return str(error)
    return ""


def zone_exists(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _check(text: str) -> None:
    if text.startswith(("TZ=", "CRON_TZ=")):
        head, space, rest = text.partition(" ")
        zone = head.partition("=")[2]
        if not space:
            raise ScheduleError(
                f"failed to parse cron schedule {quote(text)}: runtime error: slice bounds out of range [:-1]"
            )
        if not zone_exists(zone):
            raise ScheduleError(f"provided bad location {zone}: unknown time zone {zone}")
        text = rest.strip()
    if text.startswith("@"):
        _descriptor(text)
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for expression, (low, high, names) in zip(fields, _FIELDS, strict=True):
        for part in expression.split(","):
            if part:
                _range(part, low, high, names)


def _descriptor(text: str) -> None:
    if text in _DESCRIPTORS:
        return
    if text.startswith("@every "):
        try:
            durations.parse(text.removeprefix("@every "))
        except durations.DurationError as error:
            raise ScheduleError(f"failed to parse duration {text}: {error}") from None
        return
    raise ScheduleError(f"unrecognized descriptor: {text}")


def _range(text: str, low: int, high: int, names: dict[str, int]) -> None:
    """Check one range of a cron field. Raises ``ScheduleError``."""
    parts = text.split("/")
    bounds = parts[0].split("-")
    if bounds[0] in ("*", "?"):
        start, end = low, high
    else:
        start = _number(bounds[0], names)
        if len(bounds) > 2:
            raise ScheduleError(f"too many hyphens: {text}")
        end = start if len(bounds) == 1 else _number(bounds[1], names)
    step = 1
    if len(parts) == 2:
        step = _number(parts[1], {})
        if len(bounds) == 1:
            end = high
    elif len(parts) > 2:
        raise ScheduleError(f"too many slashes: {text}")
    if start < low:
        raise ScheduleError(f"beginning of range ({start}) below minimum ({low}): {text}")
    if end > high:
        raise ScheduleError(f"end of range ({end}) above maximum ({high}): {text}")
    if start > end:
        raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")


def _number(text: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not _NUMBER_RE.fullmatch(text) or len(text) > 4000:
        raise ScheduleError(f"failed to parse int from {text}: strconv.Atoi: parsing {quote(text)}: invalid syntax")
    value = int(text)
    if not -_MAX_INT64 - 1 <= value <= _MAX_INT64:
        raise ScheduleError(f"failed to parse int from {text}: strconv.Atoi: parsing {quote(text)}: value out of range")
    if value < 0:
        raise ScheduleError(f"negative number ({value}) not allowed: {text}")
    return value
