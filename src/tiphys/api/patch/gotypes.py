"""The types of JSON values, as Go calls them in messages about patches.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from typing import Any

from tiphys.api.schema import ARRAY, OBJECT, Schema


def go_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"


def type_name(value: Any) -> str:
    return "%!s(<nil>)" if value is None else go_name(value)


def kind_name(schema: Schema) -> str:
    """The kind of a type."""
    return {OBJECT: "struct", ARRAY: "slice"}.get(schema.kind, schema.kind)


def same_type(left: Any, right: Any) -> bool:
    return type(left) is type(right)


def same_value(left: Any, right: Any) -> bool:
    """Equality of values of any type in Go, where 1, 1.0 and true are three values."""
    return type(left) is type(right) and bool(left == right)
