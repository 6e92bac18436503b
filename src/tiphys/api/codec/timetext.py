"""What Go's ``time.Parse`` says about a text that is not a time, for ``Time`` and ``MicroTime`` fields.

Source: the documentation of Go's ``time`` package.
"""

from __future__ import annotations

import re
from datetime import datetime

from tiphys.api.meta.timestamps import TimeError, canonical_micro_time, canonical_time

_SECONDS, _MICRO = "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05.000000Z07:00"
_DATE = [("2006", r"\d{4}"), ("-", "-"), ("01", r"\d\d"), ("-", "-"), ("02", r"\d\d"), ("T", "T")]
_TIME = [("15", r"\d\d?"), (":", ":"), ("04", r"\d\d"), (":", ":"), ("05", r"\d\d")]
_RANGES = {"01": ("month", 1, 12), "15": ("hour", 0, 23), "04": ("minute", 0, 59), "05": ("second", 0, 59)}

_QUOTED = {byte: f"\\x{byte:02x}" for byte in (*range(32), *range(128, 256))} | {34: '\\"', 92: "\\\\"}


class GoTimeError(ValueError):
    """The text is not a time; the message is upstream's."""


def parse_time(text: str) -> str:
    """The canonical form of a ``Time``. Raises ``GoTimeError``."""
    _check(text, _SECONDS, micro=False)
    return _canonical(text, canonical_time)


def parse_micro_time(text: str) -> str:
    """The canonical form of a ``MicroTime``: six digits of fraction must be there. Raises ``GoTimeError``."""
    _check(text, _MICRO, micro=True)
    return _canonical(text, canonical_micro_time)


def _canonical(text: str, form: object) -> str:
    try:
        return form(text)  # type: ignore[operator, no-any-return]
    except TimeError as error:
        raise GoTimeError(f"parsing time {_quote(text)}: {error}") from error


def _check(text: str, layout: str, *, micro: bool) -> None:
    rest, parts = text, {}
    for element, pattern in [*_DATE, *_TIME]:
        match = re.match(pattern, rest, re.ASCII)
        if match is None:
            raise GoTimeError(_unparsed(text, layout, rest, element))
        _check_range(text, element, match[0])
        parts[element] = match[0]
        rest = rest[match.end() :]
    rest = _fraction(text, layout, rest, micro=micro)
    zone = re.match(r"Z|[+-](\d\d):(\d\d)", rest, re.ASCII)
    if zone is None:
        raise GoTimeError(_unparsed(text, layout, rest, "Z07:00"))
    if zone.end() != len(rest):
        raise GoTimeError(f"parsing time {_quote(text)}: extra text: {_quote(rest[zone.end() :])}")
    if zone[1] and (int(zone[1]) > 24 or int(zone[2]) > 60):
        raise GoTimeError(
            f"parsing time {_quote(text)}: time zone offset {'hour' if int(zone[1]) > 24 else 'minute'} out of range"
        )
    _check_day(text, parts)


def _fraction(text: str, layout: str, rest: str, *, micro: bool) -> str:
    if micro:
        match = re.match(r"[.,]\d{6}", rest, re.ASCII)
        if match is None:
            raise GoTimeError(_unparsed(text, layout, rest, ".000000"))
        return rest[match.end() :]
    match = re.match(r"[.,]\d+", rest, re.ASCII)
    return rest[match.end() :] if match else rest


def _check_range(text: str, element: str, value: str) -> None:
    if element in _RANGES:
        name, low, high = _RANGES[element]
        if not low <= int(value) <= high:
            raise GoTimeError(f"parsing time {_quote(text)}: {name} out of range")


def _check_day(text: str, parts: dict[str, str]) -> None:
    try:
        datetime(max(int(parts["2006"]), 1), int(parts["01"]), int(parts["02"]))
    except ValueError:
        raise GoTimeError(f"parsing time {_quote(text)}: day out of range") from None


def _unparsed(text: str, layout: str, rest: str, element: str) -> str:
    return f"parsing time {_quote(text)} as {_quote(layout)}: cannot parse {_quote(rest)} as {_quote(element)}"


def _quote(text: str) -> str:
    """As Go's package ``time`` quotes: everything that is not printable ASCII is shown byte by byte."""
    return '"' + "".join(_QUOTED.get(byte) or chr(byte) for byte in text.encode("utf-8", "replace")) + '"'
