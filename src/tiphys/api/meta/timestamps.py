"""Times as the API writes them: RFC 3339 in UTC, with seconds (``Time``) or with microseconds (``MicroTime``).

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/ and RFC 3339.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|([+-])(\d\d):(\d\d))", re.ASCII
).fullmatch


class TimeError(ValueError):
    """The text is not a time in RFC 3339."""


def format_time(seconds: float) -> str:
    """Seconds since 1970 as ``2026-01-02T03:04:05Z``; fractions are cut off."""
    return _whole_seconds(int(seconds // 1))


@lru_cache(maxsize=64)
def _whole_seconds(seconds: int) -> str:
    """Thousands of objects are written in the same second."""
    return _stamp(datetime.fromtimestamp(seconds, UTC), "")


def format_micro_time(seconds: float) -> str:
    """Seconds since 1970 as ``2026-01-02T03:04:05.678901Z``."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return _stamp(moment, f".{moment.microsecond:06d}")


def parse_time(text: str) -> datetime:
    """Any RFC 3339 time, in UTC; what is finer than a microsecond is cut off. Raises ``TimeError``."""
    parts = _RFC3339(text)
    if parts is None:
        raise TimeError(f"{text!r} is not a time in RFC 3339")
    year, month, day, hour, minute, second = (int(parts[i]) for i in range(1, 7))
    micro = int((parts[7] or "")[:6].ljust(6, "0"))
    zone = UTC
    try:
        if parts[9]:
            shift = timedelta(hours=int(parts[10]), minutes=int(parts[11]))
            if shift >= timedelta(hours=24) or int(parts[11]) > 59:
                raise TimeError(f"{text!r} has a zone that does not exist")
            zone = timezone(shift if parts[9] == "+" else -shift)
        return datetime(year, month, day, hour, minute, second, micro, zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimeError(f"{text!r} is not a time in RFC 3339: {error}") from error


def parse_seconds(text: str) -> float:
    """A time as seconds since 1970. Raises ``TimeError``."""
    return parse_time(text).timestamp()


def canonical_time(text: str) -> str:
    """The form in which a ``Time`` field is given back. Raises ``TimeError``."""
    return _stamp(parse_time(text), "")


def canonical_micro_time(text: str) -> str:
    """The form in which a ``MicroTime`` field is given back. Raises ``TimeError``."""
    moment = parse_time(text)
    return _stamp(moment, f".{moment.microsecond:06d}")


def _stamp(moment: datetime, fraction: str) -> str:
    # strftime does not pad years below 1000.
    return f"{moment.year:04d}-{moment.strftime('%m-%dT%H:%M:%S')}{fraction}Z"
