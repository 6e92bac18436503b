"""Tables of custom resources: the columns that a definition asks for, read from each object by JSONPath.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns
"""

from __future__ import annotations

from typing import Any

from tiphys.api.codec.timetext import GoTimeError, parse_time
from tiphys.api.custom.jsonpath import PathError, find, parse
from tiphys.api.definitions import description
from tiphys.api.gotext import json_text, value_text
from tiphys.api.object import Object
from tiphys.api.tables.columns import OBJECT_META
from tiphys.api.tables.formats import UNKNOWN, since


def default_columns() -> tuple[Object, ...]:
    """What is shown of a kind whose definition says nothing."""
    text = description(OBJECT_META, "creationTimestamp")
    return ({"name": "Age", "type": "date", "description": text, "jsonPath": ".metadata.creationTimestamp"},)


SCALE_COLUMNS: tuple[Object, ...] = (
    {
        "name": "Desired",
        "type": "integer",
        "description": "Number of desired replicas",
        "jsonPath": ".spec.replicas",
    },
    {
        "name": "Available",
        "type": "integer",
        "description": "Number of actual replicas",
        "jsonPath": ".status.replicas",
    },
)


def usable(columns: tuple[Object, ...]) -> tuple[Object, ...]:
    """The columns up to the first one whose path makes no sense."""
    for i, column in enumerate(columns):
        try:
            parse(column["jsonPath"])
        except PathError:
            return columns[:i]
    return columns


def table(columns: tuple[Object, ...], objects: list[Object], now: float, *, with_headers: bool) -> Object:
    """Column definitions and the cells of each object."""
    columns = usable(columns)
    return {
        "columnDefinitions": headers(columns) if with_headers else None,
        "rows": [{"cells": cells(columns, obj, now)} for obj in objects],
    }


def headers(columns: tuple[Object, ...]) -> list[Object]:
    name = {"name": "Name", "type": "string", "format": "name", "priority": 0}
    name["description"] = description(OBJECT_META, "name")
    return [name, *(_header(column) for column in columns)]


def _header(column: Object) -> Object:
    path = column["jsonPath"]
    text = column.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
    shown = {"name": column["name"], "type": column["type"], "format": column.get("format") or ""}
    return {**shown, "description": text, "priority": column.get("priority") or 0}


def cells(columns: tuple[Object, ...], obj: Object, now: float) -> list[Any]:
    return [obj["metadata"].get("name", ""), *(_cell(column, obj, now) for column in columns)]


def _cell(column: Object, obj: Object, now: float) -> Any:
    try:
        values = find(column["jsonPath"], obj)
    except PathError:
        return None
    if not values:
        return None
    value, kind = values[0], column["type"]
    if kind == "string":
        return _text(value)
    if value is None:
        return None
    return _typed(value, kind, now)


def _text(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, (dict, list)):
        return json_text(_sorted(value))
    return value_text(value)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _typed(value: Any, kind: str, now: float) -> Any:
    """None if the value is not of the column's type."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if is_number else None
    if kind == "number":
        return value if is_number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date" and isinstance(value, str):
        return _date(value, now)
    return None


def _date(text: str, now: float) -> str:
    if text in ("", "null"):
        return UNKNOWN
    try:
        return since(parse_time(text), now)
    except GoTimeError:
        return "<invalid>"
