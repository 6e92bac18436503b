"""What the defaulting functions of all groups share.

A field that is missing, ``null``, or, if Go has no pointer, the type's zero value, counts as unset.
"""

from __future__ import annotations

from typing import Any

from tiphys.api.object import Object


def child(obj: Object, key: str) -> Object:
    """The nested object under ``key``, which is created if it is missing."""
    value: Object | None = obj.get(key)
    if value is None:
        value = obj[key] = {}
    return value


def items(obj: Object, key: str) -> list[Any]:
    """The list under ``key``; empty if it is missing."""
    return obj.get(key) or []


def if_missing(obj: Object, **fields: Any) -> None:
    """Set pointer fields: an explicit ``0``, ``false`` or ``""`` stays."""
    for key, value in fields.items():
        if obj.get(key) is None:
            obj[key] = value


def if_empty(obj: Object, **fields: Any) -> None:
    """Set plain fields, whose zero value is the same as absence."""
    for key, value in fields.items():
        if not obj.get(key):
            obj[key] = value


def label_selector_if_missing(obj: Object, *keys: str) -> None:
    """An absent selector becomes the empty one, which selects everything."""
    for key in keys:
        if obj.get(key) is None:
            obj[key] = {}
