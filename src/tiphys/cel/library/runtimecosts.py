"""The actual cost of a call, computed from its arguments and result; excludes the cost of computing the arguments.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.cel import limits
from tiphys.cel.cost import LIST_COST, REGEX_FACTOR, TEXT_FACTOR, fixed
from tiphys.cel.library.costs import CHECK_COST, UNIT, selector_cost
from tiphys.cel.library.formats import Format
from tiphys.cel.values import Extension, size

_ONCE = frozenset(
    ["lowerAscii", "upperAscii", "substring", "trim", "url", "jsonpatch.escapeKey", "cidr", "isIP", "isCIDR", "ip"]
)
_ONCE_MORE = frozenset(["quantity", "isQuantity", "semver", "isSemver"])
_TWICE = frozenset(("replace", "split", "ip.isCanonical"))
_TRAVERSED = frozenset(["isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"])
_OF_FIRST = frozenset(
    ["starts_with_string", "ends_with_string", "string_to_bytes", "bytes_to_string", "strings_quote", "string_format"]
)
_OF_SMALLER = frozenset(
    f"{name}_{kind}" for name in ("less", "greater", "less_equals", "greater_equals") for kind in ("string", "bytes")
)


def _text(count: float) -> int:
    return math.ceil(count * TEXT_FACTOR)


Cost = int | Callable[[Sequence[Any], Any], int]
"""Of every call, or computed from the arguments and the result."""


def call_cost(function: str, overload: str) -> Cost:
    """The actual cost of a call, in units of upstream's cost model; ``overload`` is empty if it shows only then."""
    of_list = _list_or_set(overload)
    if of_list is not None:
        return of_list
    if function in UNIT or overload == "cidr_ip":
        return 1
    if function == "check":
        return CHECK_COST
    if function in _TRAVERSED:
        return lambda args, _: _traversal(args[0])
    if function in _ONCE or function in _ONCE_MORE:
        return _of_first
    if function in _TWICE:
        return lambda args, _: _text(size(args[0]) * 2)
    if function == "join":
        return lambda _, result: _text(size(result) * 2)
    if function in ("find", "findAll"):
        return _of_pattern
    if function in ("fieldSelector", "labelSelector"):
        return lambda args, _: selector_cost(fixed(size(args[1]))).high
    if function in ("containsIP", "containsCIDR"):
        return lambda args, _: _containment(overload, *args)
    if function == "validate":
        return _validation
    return _standard(function, overload)


def _standard(function: str, overload: str) -> Cost:
    if function == "_==_":
        return lambda args, _: equality_cost(args[0], args[1])
    if function == "_!=_" or overload in _OF_SMALLER:
        return _of_smaller
    if overload in _OF_FIRST:
        return _of_first
    match overload:
        case "in_list":
            return lambda args, _: size(args[1])
        case "add_string" | "add_bytes":
            return lambda args, _: _text(size(args[0]) + size(args[1]))
        case "matches_string":
            return _of_pattern
        case "contains_string":
            return lambda args, _: _text(size(args[0])) * _text(size(args[1]))
    return 1


def equality_cost(a: Any, b: Any) -> int:
    return 1 if isinstance(a, Extension) else smaller_cost(a, b)


def smaller_cost(a: Any, b: Any) -> int:
    return _text(min(size(a), size(b)))


def _of_first(args: Sequence[Any], _result: Any) -> int:
    return _text(size(args[0]))


def _of_smaller(args: Sequence[Any], _result: Any) -> int:
    return smaller_cost(args[0], args[1])


def _of_pattern(args: Sequence[Any], _result: Any) -> int:
    return _regex(size(args[0]), size(args[1]))


def _validation(args: Sequence[Any], _result: Any) -> int:
    return _regex(size(args[1]), args[0].pattern_size) if isinstance(args[0], Format) else 1


def _regex(text: int, pattern: int) -> int:
    return _text(1 + text) * math.ceil(pattern * REGEX_FACTOR)


def _containment(overload: str, cidr: Any, other: Any) -> int:
    mine = size(cidr)
    cost = _text(mine + mine)
    if overload.startswith("cidr_contains_cidr"):
        cost += _text(mine) + 1
    return cost + _text(size(other)) if overload.endswith("_string") else cost


def _traversal(value: Any) -> int:
    if isinstance(value, str):
        return int(len(value.encode()) * TEXT_FACTOR)
    if isinstance(value, bytes):
        return int(len(value) * TEXT_FACTOR)
    if isinstance(value, list):
        limits.look_at(len(value))
        return sum(map(_traversal, value))
    if isinstance(value, Mapping):
        limits.look_at(len(value))
        return sum(_traversal(key) + _traversal(item) for key, item in value.items())
    return 1


def _list_or_set(overload: str) -> Cost | None:
    match overload:
        case "list_sets_contains_list" | "list_sets_intersects_list":
            return lambda args, _: 1 + size(args[0]) * size(args[1])
        case "list_sets_equivalent_list":
            return lambda args, _: 1 + 2 * size(args[0]) * size(args[1])
        case "list_slice" | "lists_range" | "list_reverse":
            return lambda _, result: _allocating(1, size(result))
        case "list_flatten":
            return lambda args, _: _allocating(1, size(args[0]))
        case "list_flatten_int":
            return lambda args, _: _allocating(args[1], size(args[0]))
        case "list_distinct":
            return lambda args, _: _compared(args[0])
    if overload.endswith("_sort"):
        return lambda args, _: _compared(args[0])
    if overload.endswith("_sortByAssociatedKeys"):
        return lambda args, _: _compared(args[1])
    return None


def _compared(items: list[Any]) -> int:
    factor = 2 + TEXT_FACTOR if items and isinstance(items[0], str | bytes) else 2
    return _allocating(factor, len(items) ** 2)


def _allocating(factor: float, count: int) -> int:
    return int(count * factor) + 1 + LIST_COST
