"""Whether two objects, or parts of them, mean the same. A leaf: imports nothing of ours.

An absent field, null and an empty list are one; so is an empty map of strings in the fields that hold one. An empty
struct that is there was meant. Source: the API conventions, "Lists and Simple kinds" and "Optional vs. Required".
"""

from __future__ import annotations

from typing import Any

_MAPS = frozenset(("labels", "annotations", "nodeSelector", "matchLabels", "data"))


def equal(left: Any, right: Any) -> bool:
    if left is right:
        return True
    if isinstance(left, dict) and isinstance(right, dict):
        return left == right or all(_same_field(key, left, right) for key in left.keys() | right.keys())
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return all(map(equal, left, right))
    return bool(left == right) or (_is_empty(left) and _is_empty(right))


def _same_field(key: str, left: dict[str, Any], right: dict[str, Any]) -> bool:
    one, other = left.get(key), right.get(key)
    if key in _MAPS:
        one, other = one or None, other or None
    return equal(one, other)


def _is_empty(value: Any) -> bool:
    return value is None or value == []
