"""Durations as Go reads and writes them: ``1h15m``, ``500ms``, ``-1.5s``, ``0``. A leaf: imports nothing of ours.

Source: https://pkg.go.dev/time#ParseDuration and https://pkg.go.dev/time#Duration.String
"""

from __future__ import annotations

import re

MILLISECOND = 10**6
SECOND = 10**9
_LIMIT = 2**63
"""Durations are kept in 64 bits of nanoseconds."""

_UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"([0-9]*)(\.?)([0-9]*)([^0-9.]*)")


class DurationError(ValueError):
    """The text is not a duration; the message is Go's."""


def parse(text: str) -> int:
    """Nanoseconds. Raises ``DurationError``."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return 0
    if not unsigned:
        raise _invalid(text)
    total = at = 0
    while at < len(unsigned):
        part = _PART.match(unsigned, at)
        assert part is not None  # every group of the pattern may be empty
        total += _part(text, part)
        if total > _LIMIT:
            raise _invalid(text)
        at = part.end()
    if text[0] == "-":
        return -total
    if total >= _LIMIT:
        raise _invalid(text)
    return total


def seconds(text: str) -> float:
    """Seconds. Raises ``DurationError``."""
    return parse(text) / SECOND


def _part(text: str, part: re.Match[str]) -> int:
    whole, _, fraction, unit = part.groups()
    if not whole and not fraction:
        raise _invalid(text)
    if not unit:
        raise DurationError(f"time: missing unit in duration {_quote(text)}")
    if unit not in _UNITS:
        raise DurationError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
    if len(whole.lstrip("0")) > 19:
        raise _invalid(text)
    nanoseconds = int(whole or 0) * _UNITS[unit]
    if fraction:
        value, digits = _leading(fraction)
        nanoseconds += int(float(value) * (_UNITS[unit] / 10.0**digits))
    return nanoseconds


def _leading(fraction: str) -> tuple[int, int]:
    """The digits of a fraction that fit into 64 bits, as a number, and how many they are."""
    value = 0
    for count, digit in enumerate(fraction):
        if value > (_LIMIT - 1) // 10 or value * 10 + int(digit) > _LIMIT:
            return value, count
        value = value * 10 + int(digit)
    return value, len(fraction)


def _invalid(text: str) -> DurationError:
    return DurationError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    """Quoted as Go's ``time`` does it: what is not printable ASCII as its bytes."""
    quoted = []
    for character in text:
        if " " <= character <= "\x7f":
            quoted.append(f"\\{character}" if character in '"\\' else character)
        else:
            quoted += [f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass")]
    return f'"{"".join(quoted)}"'


def to_text(nanoseconds: int) -> str:
    """The shortest exact form: ``1h15m0.5s``, ``1.5ms``, ``0s``."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < SECOND:
        if rest == 0:
            return "0s"
        unit = next(name for name in ("ms", "µs", "ns") if rest >= _UNITS[name])
        return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
    minutes, rest = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    large = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "")
    return f"{sign}{large}{_decimal(rest, SECOND)}s"


def seconds_text(duration: float, step: int = 1) -> str:
    """Seconds in Go's form, cut to a multiple of ``step`` nanoseconds."""
    nanoseconds = round(duration * SECOND)
    whole = abs(nanoseconds) // step * step
    return to_text(-whole if nanoseconds < 0 else whole)


def _decimal(amount: int, unit: int) -> str:
    whole, fraction = divmod(amount, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
