"""What a call of a library's function costs in the worst case, without its arguments.

Source: the limits section of "Common Expression Language in Kubernetes", and KEP-2876.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiphys.cel.checking import declarations
from tiphys.cel.cost import (
    LIST_COST,
    ONE,
    REGEX_FACTOR,
    TEXT_FACTOR,
    CallCost,
    Estimator,
    Operand,
    Range,
    fixed,
    regex_cost,
)
from tiphys.cel.syntax import Literal
from tiphys.cel.types import Kind
from tiphys.cel.values import MAX_UINT

CHECK_COST = 350_000
_MAX_FORMAT, _MAX_FORMAT_PATTERN = 64, 128
UNIT = frozenset(
    [
        "serviceAccount",
        "path",
        "group",
        "resource",
        "subresource",
        "namespace",
        "name",
        "allowed",
        "reason",
        "error",
        "errored",
        "masked",
        "prefixLength",
        "family",
        "isUnspecified",
        "isLoopback",
        "isLinkLocalMulticast",
        "isLinkLocalUnicast",
        "isGlobalUnicast",
        "format.named",
        "sign",
        "asInteger",
        "isInteger",
        "asApproximateFloat",
        "isGreaterThan",
        "isLessThan",
        "compareTo",
        "add",
        "sub",
        "major",
        "minor",
        "patch",
        "getScheme",
        "getHostname",
        "getHost",
        "getPort",
        "getEscapedPath",
        "getQuery",
    ]
)
"""Functions that cost one, whatever they are given."""
_OVER_TEXT = frozenset(["cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver", "ip"])
_ADDRESS = Range(4, 16)
_EQUAL_AT_ONCE = frozenset(
    (
        declarations.IP,
        declarations.CIDR,
        declarations.QUANTITY,
        declarations.SEMVER,
        declarations.AUTHORIZER,
        declarations.PATH_CHECK,
        declarations.GROUP_CHECK,
        declarations.RESOURCE_CHECK,
        declarations.DECISION,
    )
)


def call_cost(
    estimator: Estimator, function: str, overload: str, target: Operand | None, args: Sequence[Operand]
) -> CallCost | None:
    """The worst-case cost and result size of a call, without its arguments' cost; None if common rules apply."""
    cost = _list_or_set(estimator, overload, target, args)
    if cost is not None:
        return cost
    if function in UNIT or overload == "cidr_ip":
        return CallCost(ONE)
    size = estimator.operand_size
    if function == "check":
        return CallCost(fixed(CHECK_COST))
    if function in ("fieldSelector", "labelSelector") and len(args) == 1:
        return CallCost(selector_cost(size(args[0])))
    if function in _OVER_TEXT and args:
        return CallCost(size(args[0]).scaled(TEXT_FACTOR))
    if function in ("url", "jsonpatch.escapeKey") and len(args) == 1:
        return CallCost(size(args[0]).scaled(TEXT_FACTOR), size(args[0]))
    if function == "ip.isCanonical" and args:
        return CallCost(size(args[0]).scaled(2 * TEXT_FACTOR))
    if function == "validate" and args:
        return CallCost(size(args[0]).scaled(TEXT_FACTOR).scaled(_MAX_FORMAT_PATTERN * REGEX_FACTOR))
    if function == "_==_" and len(args) == 2:
        return _equality(*args)
    if function in ("containsIP", "containsCIDR") and args:
        return CallCost(_containment(overload, size(args[0])))
    return _of_target(estimator, function, target, args) if target is not None else None


def selector_cost(length: Range) -> Range:
    requirements = length.scaled(0.5).scaled(LIST_COST + 40)
    return fixed(LIST_COST).plus(length.scaled(TEXT_FACTOR)).plus(requirements)


def _containment(overload: str, other: Range) -> Range:
    cost = _ADDRESS.plus(_ADDRESS).scaled(TEXT_FACTOR)
    if overload.startswith("cidr_contains_cidr"):
        cost = cost.plus(_ADDRESS.scaled(TEXT_FACTOR)).plus(ONE)
    return cost.plus(other.scaled(TEXT_FACTOR)) if overload.endswith("_string") else cost


def _equality(a: Operand, b: Operand) -> CallCost | None:
    if a.type.name != b.type.name:
        return None
    if a.type in _EQUAL_AT_ONCE:
        return CallCost(ONE)
    if a.type == declarations.FORMAT:
        return CallCost(Range(1, _MAX_FORMAT).scaled(TEXT_FACTOR))
    if a.type == declarations.URL:
        return CallCost(Range(1, b.size.high if b.size is not None else 1).scaled(TEXT_FACTOR))
    return None


def _of_target(estimator: Estimator, function: str, target: Operand, args: Sequence[Operand]) -> CallCost | None:
    """Functions whose cost is by the size of what they are called on."""
    size = estimator.operand_size(target)
    match function:
        case "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf":
            element = _element(target)
            if element is None:
                return CallCost(size.scaled(TEXT_FACTOR))
            each = ONE
            if element.type.kind in (Kind.STRING, Kind.BYTES):
                each = each.plus(estimator.operand_size(element).scaled(TEXT_FACTOR))
            return CallCost(size.times(each))
        case "lowerAscii" | "upperAscii" | "substring" | "trim":
            return CallCost(size.scaled(TEXT_FACTOR), size)
        case "replace" if len(args) >= 2:
            old, new = (estimator.operand_size(arg) for arg in args[:2])
            return CallCost(size.scaled(2 * TEXT_FACTOR), _replaced(size, old, new))
        case "split":
            limit = args[1].node if len(args) > 1 else None
            high = size.high
            if isinstance(limit, Literal) and type(limit.value) is int:
                high = limit.value % 2**64
            return CallCost(size.scaled(2 * TEXT_FACTOR), Range(0, high))
        case "join":
            joined = _joined(estimator, target, size, args)
            return CallCost(joined.scaled(TEXT_FACTOR), joined)
        case "find" | "findAll" if args:
            return CallCost(regex_cost(size, estimator.operand_size(args[0])), Range(0, size.high))
    return None


def _element(operand: Operand) -> Operand | None:
    if not operand.type.params:
        return None
    path = [*operand.path, "@items"] if operand.path is not None else None
    return Operand(None, operand.type.params[0], path, None)


def _joined(estimator: Estimator, target: Operand, count: Range, args: Sequence[Operand]) -> Range:
    element = _element(target)
    total = count.times(estimator.operand_size(element)) if element is not None else fixed(0)
    if args:
        separators = Range(max(count.low - 1, 0), max(count.high - 1, 0))
        total = total.plus(estimator.operand_size(args[0]).times(separators))
    return total


def _replaced(size: Range, old: Range, new: Range) -> Range:
    """The size of a text in which parts are replaced."""
    if old.low == 0:
        most, kept_most = min(size.high + 1, MAX_UINT), size.high
    elif new.high <= old.low:
        most, kept_most = 0, size.high
    else:
        most, kept_most = _ceil_divide(size.high, old.low), 0
    if old.high == 0:
        fewest, kept_least = min(size.low + 1, MAX_UINT), size.low
    elif old.high <= new.low:
        fewest, kept_least = 0, size.low
    else:
        fewest, kept_least = _ceil_divide(size.low, old.high), 0
    return Range(fewest, most).times(new).plus(Range(kept_least, kept_most))


def _ceil_divide(a: int, b: int) -> int:
    return min(math.ceil(float(a) / float(b)), MAX_UINT)


def _list_or_set(
    estimator: Estimator, overload: str, target: Operand | None, args: Sequence[Operand]
) -> CallCost | None:
    """The cost of list and set functions; None for any other overload."""
    size = estimator.operand_size
    match overload:
        case "list_sets_contains_list" | "list_sets_intersects_list":
            return CallCost(size(args[0]).times(size(args[1])).scaled(1).plus(ONE))
        case "list_sets_equivalent_list":
            return CallCost(size(args[0]).times(size(args[1])).scaled(2).plus(ONE))
        case "lists_range":
            return _allocating(1, fixed(_literal(args[0], MAX_UINT)))
    if target is None:
        return None
    if overload == "list_slice":
        count = _literal(args[1], size(target).high) - _literal(args[0], 0)
        return _allocating(1, fixed(count % 2**64))
    if overload in ("list_flatten", "list_flatten_int"):
        return _allocating(_literal(args[0], MAX_UINT) if args else 1, size(target))
    if overload == "list_reverse":
        return _allocating(1, size(target))
    if overload == "list_distinct":
        return _allocating(2, size(target).times(size(target)))
    if overload.startswith("list_") and overload.endswith(("_sort", "_sortByAssociatedKeys")):
        keys = size(target) if overload.endswith("_sort") else size(args[0])
        factor = 2 + TEXT_FACTOR if overload.startswith(("list_string_", "list_bytes_")) else 2
        return _allocating(factor, keys.times(keys))
    return None


def _allocating(factor: float, size: Range) -> CallCost:
    return CallCost(size.scaled(factor).plus(ONE).plus(fixed(LIST_COST)), size)


def _literal(operand: Operand, otherwise: int) -> int:
    node = operand.node
    if isinstance(node, Literal) and type(node.value) is int:
        return max(node.value, 0)
    return otherwise
