"""The types of JSON values, as Go calls them in messages about patches."""

from __future__ import annotations

from typing import Any


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


def kind_name(value: Any) -> str:
    """The kind alone: ``map``, ``slice``."""
    if isinstance(value, dict):
        return "map"
    return "slice" if isinstance(value, list) else go_name(value)


def same_type(left: Any, right: Any) -> bool:
    return type(left) is type(right)
