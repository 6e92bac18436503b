"""Lists as sets.

Source: https://pkg.go.dev/github.com/google/cel-go/ext#Sets
"""

from __future__ import annotations

from typing import Any

from tiphys.cel.arithmetic import contains
from tiphys.cel.checking.declarations import Library, overload

_SIGNATURE = "list(T), list(T) -> bool"


def _contains(items: list[Any], others: list[Any]) -> bool:
    return all(contains(other, items) for other in others)


def _equivalent(items: list[Any], others: list[Any]) -> bool:
    return _contains(items, others) and _contains(others, items)


def _intersects(items: list[Any], others: list[Any]) -> bool:
    return any(contains(item, others) for item in items)


LIBRARY = Library(
    [
        overload("list_sets_contains_list", "sets.contains", _SIGNATURE, _contains),
        overload("list_sets_equivalent_list", "sets.equivalent", _SIGNATURE, _equivalent),
        overload("list_sets_intersects_list", "sets.intersects", _SIGNATURE, _intersects),
    ]
)
