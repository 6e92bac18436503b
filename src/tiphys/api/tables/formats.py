"""How a cell is written: ages, lists that are cut, labels, containers.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.meta.selectors import SelectorError, selector_from_object
from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object

Cells = list[Any]
Printer = Callable[[Object, float], Cells]
"""Gives an object's cells, at a time in Unix seconds."""

NONE, UNSET, UNKNOWN = "<none>", "<unset>", "<unknown>"

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_UNITS = (
    (10 * _MINUTE, 1), (8 * _HOUR, _MINUTE), (8 * _DAY, _HOUR), (8 * _YEAR, _DAY), (float("inf"), _YEAR),
)  # fmt: skip
"""Spans below a bound are written in this unit, at the finest."""


def duration(seconds: float) -> str:
    """A span of time as people read it: two units at the most, and fewer the longer it is."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 48 * _HOUR:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def lasting(seconds: float) -> float:
    """For how many seconds the text of a span that grows stays the same."""
    if seconds < 0:
        return 0.0
    unit = next(unit for bound, unit in _UNITS if seconds < bound)
    return unit - seconds % unit


class Moment(float):
    """A time at which cells are printed, which learns how long they stay right. Other times only print."""

    right_until = float("inf")

    def note(self, span: float) -> None:
        """The text of a span up to this moment is shown."""
        self.right_until = min(self.right_until, self + lasting(span))


def grown(begin: float, now: float) -> str:
    """The time that has passed by now since a time in Unix seconds."""
    if isinstance(now, Moment):
        now.note(now - begin)
    return duration(now - begin)


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large}{large_name}" + (f"{rest}{small_name}" if rest else "")


def since(stamp: str | None, now: float) -> str:
    """The time since an API timestamp."""
    return grown(parse_seconds(stamp), now) if stamp else UNKNOWN


def age(obj: Object, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def name(obj: Object) -> str:
    text: str = obj["metadata"].get("name", "")
    return text


def cut(items: Sequence[str], limit: int, separator: str = ",", empty: str = UNSET) -> str:
    """The first items, and how many more there are."""
    text = separator.join(items[:limit])
    if len(items) > limit:
        return f"{text} + {len(items) - limit} more..."
    return text or empty


def labels(values: Mapping[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((values or {}).items())) or NONE


def selector(value: Mapping[str, Any] | None, empty: str = NONE, broken: str = "<error>") -> str:
    """A LabelSelector as text; one that is absent selects nothing, and is empty too."""
    try:
        return str(selector_from_object(value)) or empty if value is not None else empty
    except SelectorError:
        return broken


def containers(pod_spec: Mapping[str, Any] | None) -> list[str]:
    """Names and images of a pod template's containers."""
    items = (pod_spec or {}).get("containers") or []
    return [",".join(c["name"] for c in items), ",".join(c.get("image", "") for c in items)]


def boolean(*, value: bool | None) -> str:
    return UNSET if value is None else str(bool(value))


def conditions(obj: Object) -> dict[str, Mapping[str, Any]]:
    """The object's conditions by type."""
    return {c["type"]: c for c in obj.get("status", {}).get("conditions") or []}
