"""The worst-case cost of an expression, estimated from the sizes that values can have.

Every step has a cost; what goes through a text or a list costs by its size. A size, like a cost, is a range. Where
nothing bounds a size, the range ends at the largest number there is.
Source: KEP-2876 "CRD validation expression language", "Resource constraints".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tiphys.cel import types
from tiphys.cel.syntax import (
    ACCUMULATOR,
    OLD_ACCUMULATOR,
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
)
from tiphys.cel.types import Kind, Type
from tiphys.cel.values import MAX_UINT

TEXT_FACTOR, REGEX_FACTOR = 0.1, 0.25
LIST_COST, MAP_COST, MESSAGE_COST = 10, 30, 40
_SCALARS = frozenset((Kind.BOOL, Kind.DOUBLE, Kind.DURATION, Kind.INT, Kind.TIMESTAMP, Kind.UINT))
_COMPARED_AS_TEXT = frozenset(
    f"{name}_{kind}" for name in ("less", "greater", "less_equals", "greater_equals") for kind in ("string", "bytes")
) | {"equals", "not_equals"}


class Range(NamedTuple):
    """A cost or a size: at least, at most. Sums and products stop at the largest number."""

    low: int
    high: int

    def plus(self, other: Range) -> Range:
        return Range(min(self.low + other.low, MAX_UINT), min(self.high + other.high, MAX_UINT))

    def times(self, other: Range) -> Range:
        return Range(min(self.low * other.low, MAX_UINT), min(self.high * other.high, MAX_UINT))

    def scaled(self, factor: float) -> Range:
        return Range(_scale(self.low, factor), _scale(self.high, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scale(number: int, factor: float) -> int:
    exact = float(number) * factor
    return MAX_UINT if exact >= float(2**64) else min(math.ceil(exact), MAX_UINT)


def fixed(number: int) -> Range:
    return Range(number, number)


UNKNOWN = Range(0, MAX_UINT)
ZERO, ONE = fixed(0), fixed(1)
_NOTHING_YET = Range(MAX_UINT, 0)


@dataclass(frozen=True, slots=True)
class Entries:
    """The sizes of what is in a list or a map."""

    kind: Kind
    key: Range
    value: Range

    def union(self, other: Entries | None) -> Entries | None:
        if other is None:
            return None
        return Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


@dataclass(frozen=True, slots=True)
class Operand:
    """An argument of a call: its type, its origin and its size, as far as they are known."""

    node: Node | None
    type: Type
    path: list[str] | None
    size: Range | None


@dataclass(frozen=True, slots=True)
class CallCost:
    cost: Range
    result: Range | None = None
    """The size of what the call gives."""


SizeOf = Callable[[list[str]], Range | None]
"""The size of what is at a path that starts with a variable."""
CallCoster = Callable[["Estimator", str, str, Operand | None, Sequence[Operand]], CallCost | None]
"""By function and overload; None if the common rules apply."""


@dataclass
class _Local:
    path: list[str]
    size: Range | None
    entries: Entries | None


@dataclass
class Estimator:
    size_of: SizeOf
    calls: CallCoster
    locals: dict[str, list[_Local]] = field(default_factory=dict)
    paths: dict[int, list[str]] = field(default_factory=dict)
    sizes: dict[int, Range] = field(default_factory=dict)
    entry_sizes: dict[int, Entries] = field(default_factory=dict)

    def cost(self, node: Node) -> Range:
        """The range of costs of a node, without a unit; sizes of operands bound what calls may cost."""
        match node:
            case Ident():
                local = self._local(node.name)
                self.paths[id(node)] = local.path if local else [node.name]
                return ONE
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListNode():
                return self._list(node)
            case MapNode():
                return self._map(node)
            case StructNode():
                total = fixed(MESSAGE_COST)
                for init in node.fields:
                    total = total.plus(self.cost(init.value))
                return total
            case Comprehension():
                return self._bind(node) if _is_bind(node) else self._comprehension(node)
        return ZERO

    def _select(self, node: Select) -> Range:
        if node.resolved is not None:
            self.paths[id(node)] = [node.resolved]
            return ONE
        total = self.cost(node.operand)
        if node.test_only:
            return total
        if node.operand.type.kind in (Kind.MAP, Kind.STRUCT, Kind.PARAM):
            total = total.plus(ONE)
        self.paths[id(node)] = [*self._path(node.operand), node.field]
        return total

    def _list(self, node: ListNode) -> Range:
        total, item = fixed(LIST_COST), _NOTHING_YET if node.elements else Range(0, 0)
        for element in node.elements:
            total = total.plus(self.cost(element))
            item = item.union(self.size_or_unknown(element))
        self.entry_sizes[id(node)] = Entries(Kind.LIST, ONE, item)
        return total

    def _map(self, node: MapNode) -> Range:
        total = fixed(MAP_COST)
        key = value = _NOTHING_YET if node.entries else Range(0, 0)
        for entry in node.entries:
            total = total.plus(self.cost(entry.key)).plus(self.cost(entry.value))
            key = key.union(self.size_or_unknown(entry.key))
            value = value.union(self.size_or_unknown(entry.value))
        self.entry_sizes[id(node)] = Entries(Kind.MAP, key, value)
        return total

    # Folds

    def _bind(self, node: Comprehension) -> Range:
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, _Local(self._path(node.init), self._size(node.init), self._entries(node.init)))
        total = total.plus(self.cost(node.result))
        self.locals[node.accu].pop()
        self._copy_sizes(node, node.result)
        return total

    def _comprehension(self, node: Comprehension) -> Range:
        total = self.cost(node.range).plus(self.cost(node.init))
        self._push(node.accu, _Local(self._path(node.init), self._size(node.init), self._entries(node.init)))
        names = self._push_variables(node)
        each = self.cost(node.condition).plus(self.cost(node.step))
        for name in names:
            self.locals[name].pop()
        total = total.plus(self.cost(node.result))
        self.locals[node.accu].pop()
        count = self.size_or_unknown(node.range)
        if isinstance(node.init, Literal):
            self._set_size(node, self._size(node.init))
        elif isinstance(node.init, ListNode | MapNode):
            self.sizes[id(node)] = count
            if entries := self._entries(node.step):
                self.entry_sizes[id(node)] = entries
        return total.plus(count.times(each))

    def _push_variables(self, node: Comprehension) -> list[str]:
        entries, path = self._entries(node.range), self._path(node.range)
        kind = entries.kind if entries else node.range.type.kind
        key = (["@indices"] if kind is Kind.LIST else ["@keys"], entries.key if entries else None)
        value = (["@items"] if kind is Kind.LIST else ["@values"], entries.value if entries else None)
        if node.var2 is None:
            variables = {node.var: value if kind is Kind.LIST else key}
        else:
            variables = {node.var: key, node.var2: value}
        for name, (step, size) in variables.items():
            self._push(name, _Local(path + step, size, None))
        return list(variables)

    # Calls

    def _call(self, node: Call) -> Range:
        """The range of a call's cost, summed over its possible overloads; notes the size of its result."""
        if node.function == "dyn":
            total = self.cost(node.args[0]).plus(ONE)
            self._copy_sizes(node, node.args[0])
            return total
        costs = [self.cost(arg) for arg in node.args]
        args = [self._operand(arg) for arg in node.args]
        if not node.overloads:
            return ZERO
        total, target = ZERO, None
        if node.target is not None:
            total = self.cost(node.target)
            target = self._operand(node.target)
        call, result = _NOTHING_YET, None
        for overload in node.overloads:
            known = self._overload(node, overload, target, args, costs)
            call = call.union(known.cost)
            if known.result is not None:
                result = known.result if result is None else result.union(known.result)
            if overload in ("index_list", "index_map") and args:
                entries = self._entries(node.args[0])
                result = entries.value if entries else None
                step = "@items" if overload == "index_list" else "@values"
                self.paths[id(node)] = [*self._path(node.args[0]), step]
            if result is None:
                result = self._size(node)
        self._set_size(node, result)
        return total.plus(call)

    def _overload(
        self, node: Call, overload: str, target: Operand | None, args: list[Operand], costs: list[Range]
    ) -> CallCost:
        """The cost of one overload: estimated by libraries, or by the rules for operators."""
        of_args = ZERO
        for cost in costs:
            of_args = of_args.plus(cost)
        estimate = self.calls(self, node.function, overload, target, args)
        estimate = estimate or _standard_call(overload, target, args)
        if estimate is not None:
            return CallCost(estimate.cost.plus(of_args), estimate.result)
        match overload:
            case "logical_or" | "logical_and":
                return CallCost(Range(costs[0].low, costs[0].plus(costs[1]).high))
            case "conditional":
                self._join_entries(node, node.args[1], node.args[2])
                size = self.size_or_unknown(node.args[1]).union(self.size_or_unknown(node.args[2]))
                return CallCost(costs[0].plus(costs[1].union(costs[2])), size)
            case "add_string" | "add_bytes" | "add_list":
                self._join_entries(node, *node.args)
                size = self.size_or_unknown(node.args[0]).plus(self.size_or_unknown(node.args[1]))
                cost = ONE if overload == "add_list" else size.scaled(TEXT_FACTOR)
                return CallCost(cost.plus(of_args), size)
        return CallCost(of_args.plus(ONE))

    def _join_entries(self, node: Node, a: Node, b: Node) -> None:
        left = self._entries(a)
        if left and (joined := left.union(self._entries(b))):
            self.entry_sizes[id(node)] = joined

    # Sizes

    def _operand(self, node: Node) -> Operand:
        path: list[str] | None = self._path(node)
        if not path or path[0] in (ACCUMULATOR, OLD_ACCUMULATOR):
            path = None
        return Operand(node, node.type, path, self._size(node))

    def operand_size(self, operand: Operand) -> Range:
        if operand.size is not None:
            return operand.size
        return (self.size_of(operand.path) if operand.path else None) or UNKNOWN

    def size_or_unknown(self, node: Node) -> Range:
        return self._size(node) or UNKNOWN

    def _size(self, node: Node) -> Range | None:
        if known := self.sizes.get(id(node)):
            return known
        if (size := _literal_size(node)) is not None:
            return fixed(size)
        path = self._path(node)
        if path and (known := self.size_of(path)):
            self.sizes[id(node)] = known
            return known
        if _is_scalar(node.type):
            return ONE
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.size if local else None

    def _entries(self, node: Node) -> Entries | None:
        if entries := self.entry_sizes.get(id(node)):
            return entries
        local = self._local(node.name) if isinstance(node, Ident) else None
        return local.entries if local else None

    def _set_size(self, node: Node, size: Range | None) -> None:
        if size is not None:
            self.sizes[id(node)] = size

    def _copy_sizes(self, to: Node, source: Node) -> None:
        self._set_size(to, self._size(source))
        if entries := self._entries(source):
            self.entry_sizes[id(to)] = entries

    # Names

    def _local(self, name: str) -> _Local | None:
        bound = self.locals.get(name)
        return bound[-1] if bound else None

    def _push(self, name: str, local: _Local) -> None:
        self.locals.setdefault(name, []).append(local)

    def _path(self, node: Node) -> list[str]:
        if isinstance(node, Ident) and (local := self._local(node.name)):
            return local.path
        return self.paths.get(id(node), [])


def _is_bind(node: Comprehension) -> bool:
    over, condition = node.range, node.condition
    return (
        isinstance(over, ListNode)
        and not over.elements
        and isinstance(condition, Literal)
        and condition.value is False
        and node.accu != OLD_ACCUMULATOR
    )


def _literal_size(node: Node) -> int | None:
    if isinstance(node, Literal):
        return len(node.value) if isinstance(node.value, str | bytes) else 1
    if isinstance(node, ListNode):
        return len(node.elements)
    return len(node.entries) if isinstance(node, MapNode) else None


def _is_scalar(type: Type) -> bool:
    return _is_scalar(type.params[0]) if types.is_optional(type) and type.params else type.kind in _SCALARS


def _known(operand: Operand) -> Range:
    return operand.size or UNKNOWN


def _standard_call(overload: str, target: Operand | None, args: Sequence[Operand]) -> CallCost | None:
    """Functions of the language itself whose cost depends on sizes; without the cost of their arguments."""
    match overload:
        case "string_format" if target is not None:
            return CallCost(_known(target).scaled(TEXT_FACTOR))
        case "string_to_bytes":
            size = _known(args[0])
            return CallCost(size.scaled(TEXT_FACTOR), Range(size.low, size.high * 4 % 2**64))
        case "bytes_to_string":
            size = _known(args[0])
            return CallCost(size.scaled(TEXT_FACTOR), Range(size.low // 4, size.high))
        case "strings_quote":
            size = _known(args[0])
            return CallCost(size.scaled(TEXT_FACTOR), Range(size.low + 2, (size.high * 2 + 2) % 2**64))
        case "starts_with_string" | "ends_with_string":
            return CallCost(_known(args[0]).scaled(TEXT_FACTOR))
        case "in_list":
            return CallCost(_known(args[1]).scaled(1))
        case "matches_string" if target is not None:
            return CallCost(regex_cost(_known(target), _known(args[0])))
        case "contains_string" if target is not None:
            return CallCost(_known(target).scaled(TEXT_FACTOR).times(_known(args[0]).scaled(TEXT_FACTOR)))
    if overload in _COMPARED_AS_TEXT:
        high = min(_known(args[0]).high, _known(args[1]).high)
        return CallCost(Range(1 if high else 0, high).scaled(TEXT_FACTOR))
    return None


def regex_cost(text: Range, pattern: Range) -> Range:
    return text.plus(ONE).scaled(TEXT_FACTOR).times(pattern.scaled(REGEX_FACTOR))
