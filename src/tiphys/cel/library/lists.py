"""Lists: Kubernetes' own functions (sums, extremes, positions) and those of the extension (slices, sorting).

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from tiphys.cel import limits
from tiphys.cel.arithmetic import add
from tiphys.cel.checking.declarations import Library, member, overload
from tiphys.cel.parsing import macros
from tiphys.cel.values import CelError, Duration, Uint, compare, equal, type_of

_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_TYPE_NAMES = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}
_NOUGHT = {"int": 0, "uint": Uint(0), "double": 0.0, "duration": Duration(0)}


def _is_sorted(items: list[Any]) -> bool:
    return all(compare(a, b) <= 0 for a, b in pairwise(items))


def _sum(nought: Any) -> Callable[[list[Any]], Any]:
    def run(items: list[Any]) -> Any:
        total = nought
        for item in items:
            total = add(total, item)
        return total

    return run


def _extreme(name: str, better: int) -> Callable[[list[Any]], Any]:
    def run(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        best = items[0]
        for item in items[1:]:
            if compare(item, best) == better:
                best = item
        return best

    return run


def _index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if equal(item, wanted)), -1)


def _last_index_of(items: list[Any], wanted: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if equal(items[i], wanted)), -1)


def _of_each(suffix: str, function: str, result: str, run: Callable[[str], Any], kinds: tuple[str, ...]) -> list[Any]:
    overloads = []
    for kind in kinds:
        signature = f"list({kind}) -> {result.replace('T', kind)}"
        overloads.append(member(f"list_{kind}_{suffix.replace('T', kind)}", function, signature, run(kind)))
    return overloads


LIBRARY = Library(
    [
        *_of_each("is_sorted_bool", "isSorted", "bool", lambda _: _is_sorted, _COMPARABLE),
        *_of_each("sum_T", "sum", "T", lambda kind: _sum(_NOUGHT[kind]), tuple(_NOUGHT)),
        *_of_each("max_T", "max", "T", lambda _: _extreme("max", 1), _COMPARABLE),
        *_of_each("min_T", "min", "T", lambda _: _extreme("min", -1), _COMPARABLE),
        member("list_a_index_of_int", "indexOf", "list(A), A -> int", _index_of),
        member("list_a_last_index_of_int", "lastIndexOf", "list(A), A -> int", _last_index_of),
    ]
)


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    message = f"cannot slice({start}, {end}), "
    if start < 0 or end < 0:
        raise CelError(f"{message}negative indexes not supported")
    if start > end:
        raise CelError(f"{message}start index must be less than or equal to end index")
    if len(items) < end:
        raise CelError(f"{message}list is length {len(items)}")
    return items[start:end]


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    flat = list[Any]()
    for item in items:
        if isinstance(item, list) and depth > 0:
            limits.make_items(len(item))
            flat += _flatten(item, depth - 1)
        else:
            flat.append(item)
    return flat


def _sort_by(items: list[Any], keys: list[Any]) -> list[Any]:
    if len(items) != len(keys):
        raise CelError(
            f"{macros.SORT_BY_KEYS}() expected a list of the same size as the associated keys list, but got "
            f"{len(items)} and {len(keys)} elements respectively"
        )
    if len({type_of(key) for key in keys}) > 1:
        raise CelError("list elements must have the same type")

    def by_key(a: int, b: int) -> int:
        return compare(keys[a], keys[b])

    return [items[i] for i in sorted(range(len(items)), key=cmp_to_key(by_key))]


def _sort(items: list[Any]) -> list[Any]:
    return _sort_by(items, items)


def _range(count: int) -> list[int]:
    limits.make_text(max(count, 0) * 36)
    return list(range(count))


def _reverse(items: list[Any]) -> list[Any]:
    return items[::-1]


def _distinct(items: list[Any]) -> list[Any]:
    distinct = list[Any]()
    for item in items:
        if _index_of(distinct, item) < 0:
            distinct.append(item)
    return distinct


EXTENSION = Library(
    [
        member("list_slice", "slice", "list(T), int, int -> list(T)", _slice),
        member("list_flatten", "flatten", "list(list(T)) -> list(T)", _flatten),
        member("list_flatten_int", "flatten", "list(dyn), int -> list(dyn)", _flatten),
        *(
            member(
                f"list_{_TYPE_NAMES.get(kind, kind)}_sort",
                "sort",
                f"list({kind}) -> list({kind})",
                _sort,
            )
            for kind in _COMPARABLE
        ),
        *(
            member(
                f"list_{_TYPE_NAMES.get(kind, kind)}_sortByAssociatedKeys",
                macros.SORT_BY_KEYS,
                f"list(T), list({kind}) -> list(T)",
                _sort_by,
            )
            for kind in _COMPARABLE
        ),
        overload("lists_range", "lists.range", "int -> list(int)", _range),
        member("list_reverse", "reverse", "list(T) -> list(T)", _reverse),
        member("list_distinct", "distinct", "list(T) -> list(T)", _distinct),
    ],
    macros.LISTS,
)
