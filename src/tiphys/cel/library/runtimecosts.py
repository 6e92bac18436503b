"""The actual cost of a call, computed from its arguments and result; excludes the cost of computing the arguments.

Source: https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-cel-libraries
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def call_cost(function: str, overload: str, args: list[Any], result: Any) -> int:
    """The actual cost of a call that returned ``result``, in units of upstream's cost model."""
    cost = _list_or_set(overload, args, result)
    if cost is not None:
        return cost
    if function in UNIT or overload == "cidr_ip":
        return 1
    if function == "check":
        return CHECK_COST
    if function in _TRAVERSED:
        return _traversal(args[0])
    if function in _ONCE or function in _ONCE_MORE:
        return _text(size(args[0]))
    if function in _TWICE:
        return _text(size(args[0]) * 2)
    if function == "join":
        return _text(size(result) * 2)
    if function in ("find", "findAll"):
        return _regex(size(args[0]), size(args[1]))
    if function in ("fieldSelector", "labelSelector"):
        return selector_cost(fixed(size(args[1]))).high
    if function in ("containsIP", "containsCIDR"):
        return _containment(overload, *args)
    if function == "validate" and isinstance(args[0], Format):
        return _regex(size(args[1]), args[0].pattern_size)
    return _standard(function, overload, args)


def _standard(function: str, overload: str, args: list[Any]) -> int:
    if function in ("_==_", "_!=_"):
        if function == "_==_" and isinstance(args[0], Extension):
            return 1
        return _text(min(size(args[0]), size(args[1])))
    if overload in _OF_SMALLER:
        return _text(min(size(args[0]), size(args[1])))
    if overload in _OF_FIRST:
        return _text(size(args[0]))
    match overload:
        case "in_list":
            return size(args[1])
        case "add_string" | "add_bytes":
            return _text(size(args[0]) + size(args[1]))
        case "matches_string":
            return _regex(size(args[0]), size(args[1]))
        case "contains_string":
            return _text(size(args[0])) * _text(size(args[1]))
    return 1


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
        return sum(map(_traversal, value))
    if isinstance(value, Mapping):
        return sum(_traversal(key) + _traversal(item) for key, item in value.items())
    return 1


def _list_or_set(overload: str, args: list[Any], result: Any) -> int | None:
    match overload:
        case "list_sets_contains_list" | "list_sets_intersects_list":
            return 1 + size(args[0]) * size(args[1])
        case "list_sets_equivalent_list":
            return 1 + 2 * size(args[0]) * size(args[1])
        case "list_slice" | "lists_range" | "list_reverse":
            return _allocating(1, size(result))
        case "list_flatten":
            return _allocating(1, size(args[0]))
        case "list_flatten_int":
            return _allocating(args[1], size(args[0]))
        case "list_distinct":
            return _compared(args[0])
    if overload.endswith("_sort"):
        return _compared(args[0])
    return _compared(args[1]) if overload.endswith("_sortByAssociatedKeys") else None


def _compared(items: list[Any]) -> int:
    factor = 2 + TEXT_FACTOR if items and isinstance(items[0], str | bytes) else 2
    return _allocating(factor, len(items) ** 2)


def _allocating(factor: float, count: int) -> int:
    return int(count * factor) + 1 + LIST_COST
