"""Structures in error messages, with their fields in the order of the type, whatever order the author wrote them in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tiphys.api.fielderrors import FieldError
from tiphys.api.schema import ARRAY, MAP, OBJECT, Field, Schema

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]*)\]")


def in_wire_order(errs: Iterable[FieldError], schema: Schema) -> list[FieldError]:
    """The errors of an object of the given type; a value that many errors show is put in order once."""
    known: dict[tuple[int, str, str], FieldError] = {}
    values: dict[tuple[int, int], Any] = {}
    ordered = []
    for error in errs:
        if isinstance(error.value, (dict, list)):
            key = id(error.value), error.field, f"{error.type} {error.detail}"
            if key not in known:
                known[key] = _shown(error, schema, values)
            error = known[key]
        ordered.append(error)
    return ordered


def _shown(error: FieldError, schema: Schema, values: dict[tuple[int, int], Any]) -> FieldError:
    type = _at(error.field, schema)
    if type is None:
        return error
    key = id(error.value), id(type)
    if key not in values:
        values[key] = _ordered(error.value, type)
    return replace(error, value=values[key])


def _at(path: str, schema: Schema) -> Schema | None:
    """The type of the field at ``spec.containers[0].name``; None if the path names none."""
    node: Schema | None = schema
    for step in _STEP.finditer(path):
        if node is None:
            return None
        if node.kind == OBJECT and step[1] is not None:
            child = node.fields.get(step[1])
            node = None if child is None else child.schema
        else:
            node = node.items if node.kind in (ARRAY, MAP) else None
    return node


def _ordered(value: Any, schema: Schema) -> Any:
    if isinstance(value, list):
        items = schema.items if schema.kind == ARRAY else None
        return value if items is None else [_ordered(item, items) for item in value]
    if not isinstance(value, dict):
        return value
    if schema.kind == MAP:
        return {key: value[key] for key in sorted(value)}
    if schema.kind != OBJECT:
        return value
    in_order = {
        name: _ordered(value[name], field.schema)
        for name, field in schema.fields.items()
        if name in value and not _left_out(value[name], field)
    }
    # What the type does not know is in its internal form, and in order already.
    return {**in_order, **{name: item for name, item in value.items() if name not in schema.fields}}


def _left_out(value: Any, field: Field) -> bool:
    """An empty list or map that was sent is not written."""
    return field.omit_empty and field.schema.kind in (ARRAY, MAP) and not value
