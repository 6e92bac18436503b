"""From the JSON of a custom resource to the values that its rules see, by its schema.

Texts of some formats are moments, durations or bytes; numbers are doubles; lists that are sets or maps compare as such;
names are escaped. If the schema says none of this, the JSON is used as it is.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.cel.library import times
from tiphys.cel.parsing.escaping import escape
from tiphys.cel.values import CelError, Duration, MapList, SetList

Convert = Callable[[Any], Any]

_NANO = 10**9
_UNITS = {
    "ns": 1,
    "nano": 1,
    "us": 10**3,
    "µs": 10**3,
    "micro": 10**3,
    "ms": 10**6,
    "milli": 10**6,
    "s": _NANO,
    "sec": _NANO,
    "m": 60 * _NANO,
    "min": 60 * _NANO,
    "h": 3600 * _NANO,
    "hr": 3600 * _NANO,
    "hour": 3600 * _NANO,
    "d": 86400 * _NANO,
    "day": 86400 * _NANO,
    "w": 604800 * _NANO,
    "week": 604800 * _NANO,
}
_LOOSE_DURATION = re.compile(r"(\d+)\s*([A-Za-zµ]+)")


def converter(schema: Mapping[str, Any]) -> Convert | None:
    """None if values are used as they are."""
    match schema.get("type"):
        case "object":
            return _object(schema)
        case "array":
            return _array(schema)
        case "number":
            return lambda value: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        case "string":
            return _FORMATS.get(schema.get("format") or "")
    return None


def _object(schema: Mapping[str, Any]) -> Convert | None:
    """What converts objects of this schema; None if they are used as they are."""
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        inner = converter(additional)
        if inner is None:
            return None
        return lambda value: _each(value, inner) if isinstance(value, dict) else value
    changed: dict[str, tuple[str, Convert | None]] = {}
    for name, field in (schema.get("properties") or {}).items():
        convert, escaped = converter(field), escape(name) or name
        if convert is not None or escaped != name:
            changed[name] = escaped, convert
    if not changed:
        return None

    def convert_fields(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        out = dict[str, Any]()
        for name, field in value.items():
            escaped, convert = changed.get(name, (name, None))
            out[escaped] = field if convert is None or field is None else convert(field)
        return out

    return convert_fields


def _each(value: dict[str, Any], convert: Convert) -> dict[str, Any]:
    return {key: item if item is None else convert(item) for key, item in value.items()}


def _array(schema: Mapping[str, Any]) -> Convert | None:
    inner, kind = converter(schema.get("items") or {}), schema.get("x-kubernetes-list-type")
    keys = tuple(escape(key) or key for key in schema.get("x-kubernetes-list-map-keys") or ())
    if inner is None and kind not in ("set", "map"):
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = value if inner is None else [item if item is None else inner(item) for item in value]
        if kind == "set":
            return SetList(items)
        return MapList(items, keys) if kind == "map" else items

    return convert


def _moment(value: Any) -> Any:
    try:
        return times.to_timestamp(value.replace(" ", "T", 1) if isinstance(value, str) else value)
    except CelError:
        return value


def _date(value: Any) -> Any:
    return _moment(f"{value}T00:00:00Z")


def _duration(value: Any) -> Any:
    try:
        return times.to_duration(value)
    except CelError:
        parts = _LOOSE_DURATION.findall(value) if isinstance(value, str) else []
    nanos = 0
    for count, unit in parts:
        known = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if known is None:
            return value
        nanos += int(count) * known
    return Duration(nanos)


def _bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return value


_FORMATS: dict[str, Convert] = {"date-time": _moment, "date": _date, "duration": _duration, "byte": _bytes}
