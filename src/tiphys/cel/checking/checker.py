"""The type checker: names resolved, overloads chosen, types inferred; or what is wrong with them, where.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.cel import types
from tiphys.cel.checking.declarations import Names, Overload
from tiphys.cel.checking.unify import Bindings, assignable, most_general, substitute
from tiphys.cel.parsing.source import Problems
from tiphys.cel.syntax import (
    AND,
    OPTIONAL_SELECT,
    OR,
    Call,
    Comprehension,
    FieldInit,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    StructNode,
    qualified_name,
    walk,
)
from tiphys.cel.types import Kind, Type
from tiphys.cel.values import type_of

_MESSAGE_NAMES = {
    Kind.ANY: "google.protobuf.Any",
    Kind.BOOL: "google.protobuf.BoolValue",
    Kind.BYTES: "google.protobuf.BytesValue",
    Kind.DOUBLE: "google.protobuf.DoubleValue",
    Kind.DURATION: "google.protobuf.Duration",
    Kind.DYN: "google.protobuf.Value",
    Kind.INT: "google.protobuf.Int64Value",
    Kind.LIST: "google.protobuf.ListValue",
    Kind.NULL: "google.protobuf.NullValue",
    Kind.MAP: "google.protobuf.Struct",
    Kind.STRING: "google.protobuf.StringValue",
    Kind.TIMESTAMP: "google.protobuf.Timestamp",
    Kind.UINT: "google.protobuf.UInt64Value",
}


def check(tree: Node, environment: Names, problems: Problems) -> Type:
    """The type of the whole; every node gets its own."""
    checker = _Checker(environment, problems)
    checker.check(tree)
    for node in walk(tree):
        node.type = substitute(checker.bound, node.type, free_to_dyn=True)
    return tree.type


class _Checker:
    def __init__(self, environment: Names, problems: Problems) -> None:
        self.environment, self.problems = environment, problems
        self.bound: Bindings = {}
        self.scopes: list[dict[str, Type]] = []
        self.free = 0

    # Names

    def lookup(self, name: str) -> tuple[str, Type] | None:
        """The name without a leading dot, and what it is."""
        name = name.removeprefix(".")
        for scope in reversed(self.scopes):
            if name in scope:
                return name, scope[name]
        kind = self.environment.identifier(name)
        return None if kind is None else (name, kind)

    def undeclared(self, node: Node, name: str) -> None:
        self.problems.add(node.pos, f"undeclared reference to '{name}' (in container '')")

    def mismatch(self, node: Node, expected: Type, actual: Type) -> None:
        self.problems.add(node.pos, f"expected type '{expected}' but found '{actual}'")

    # Nodes

    def check(self, node: Node) -> None:
        """Annotate ``node`` and all below it with types; problems are collected, not raised."""
        match node:
            case Literal():
                node.type = type_of(node.value)
            case Ident():
                self.ident(node)
            case Select():
                self.select(node)
            case Call():
                self.call(node)
            case ListNode():
                self.list(node)
            case MapNode():
                self.map(node)
            case StructNode():
                self.message(node)
            case Comprehension():
                self.comprehension(node)

    def ident(self, node: Ident) -> None:
        declared = self.lookup(node.name)
        if declared is None:
            node.type = types.ERROR
            self.undeclared(node, node.name)
            return
        node.name, node.type = declared

    def select(self, node: Select) -> None:
        name = qualified_name(node)
        declared = None if name is None else self.lookup(name)
        if declared is not None:
            node.resolved, node.type = declared
            return
        result = self.field(node, node.operand, node.field, optional=False)
        node.type = types.BOOL if node.test_only else substitute(self.bound, result)

    def field(self, node: Node, operand: Node, name: str, *, optional: bool) -> Type:
        self.check(operand)
        operand_type = substitute(self.bound, operand.type)
        target = types.unwrap_optional(operand_type)
        result = types.DYN
        if target.kind is Kind.MAP:
            result = target.params[1]
        elif target.kind is Kind.STRUCT:
            result = self.field_type(node.pos, target.name, name) or types.ERROR
        elif target.kind is Kind.PARAM:
            self.fits(types.DYN, target)
        elif not target.is_dyn and target.kind is not Kind.ERROR:
            self.problems.add(node.pos, f"type '{target}' does not support field selection")
        return types.optional(result) if optional or types.is_optional(operand_type) else result

    def field_type(self, pos: int, message: str, name: str) -> Type | None:
        if not self.environment.has_message(message):
            self.problems.add(pos, f"unexpected failed resolution of '{message}'")
            return None
        kind = self.environment.field_type(message, name)
        if kind is None:
            self.problems.add(pos, f"undefined field '{name}'")
        return kind

    def call(self, node: Call) -> None:
        """Resolve a call: a function, a qualified name such as ``math.greatest``, or a member; then its overloads."""
        if node.function == OPTIONAL_SELECT:
            self.optional_select(node)
            return
        for arg in node.args:
            self.check(arg)
        if node.target is None:
            name = node.function.removeprefix(".")
            overloads = self.environment.functions.get(name)
            if overloads is None:
                self.undeclared(node, node.function)
                node.type = types.ERROR
                return
            node.function = name
            self.resolve(node, overloads)
            return
        prefix = qualified_name(node.target)
        if prefix is not None:
            name = f"{prefix}.{node.function}".removeprefix(".")
            overloads = self.environment.functions.get(name)
            if overloads is not None:
                node.function, node.target = name, None
                self.resolve(node, overloads)
                return
        self.check(node.target)
        overloads = self.environment.functions.get(node.function)
        if overloads is None:
            node.type = types.ERROR
            self.undeclared(node, node.function)
            return
        self.resolve(node, overloads)

    def optional_select(self, node: Call) -> None:
        operand, name = node.args
        assert isinstance(name, Literal)
        name.type = types.STRING
        node.type = substitute(self.bound, self.field(node, operand, name.value, optional=True))
        node.overloads = ("select_optional_field",)

    def resolve(self, node: Call, overloads: Sequence[Overload]) -> None:
        """Set the type and matching overloads of a call; matches with different results make its type ``dyn``."""
        args = node.args if node.target is None else [node.target, *node.args]
        given = [arg.type for arg in args]
        if node.function in (AND, OR):
            self.logical(node, overloads[0].id)
            return
        result: Type | None = None
        matching = list[str]()
        for overload in overloads:
            if overload.is_member != (node.target is not None):
                continue
            fresh: Bindings = {name: self.type_var() for name in sorted(overload.params)}
            wanted = [substitute(fresh, arg) for arg in overload.args]
            if len(wanted) != len(given):
                continue
            bound = assignable(self.bound, list(zip(given, wanted, strict=True)))
            if bound is None:
                continue
            self.bound = bound
            matching.append(overload.id)
            refined = substitute(bound, substitute(fresh, overload.result))
            if result is None:
                result = refined
            elif not result.is_dyn and refined != result:
                result = types.DYN
        if result is None:
            self.no_overload(node, given)
            node.type = types.ERROR
            return
        node.type, node.overloads = result, tuple(matching)

    def logical(self, node: Call, overload: str) -> None:
        wrong = False
        for arg in node.args:
            if not self.fits(arg.type, types.BOOL):
                self.mismatch(arg, types.BOOL, arg.type)
                wrong = True
        node.type = types.ERROR if wrong else types.BOOL
        node.overloads = () if wrong else (overload,)

    def no_overload(self, node: Call, given: Sequence[Type]) -> None:
        names = [str(substitute(self.bound, arg, free_to_dyn=True)) for arg in given]
        target = ""
        if node.target is not None:
            target = names.pop(0) + "."
        message = f"found no matching overload for '{node.function}' applied to '{target}({', '.join(names)})'"
        self.problems.add(node.pos, message)

    def list(self, node: ListNode) -> None:
        element: Type | None = None
        for i, item in enumerate(node.elements):
            self.check(item)
            given = self.maybe_optional(item, optional=i in node.optional)
            element = self.join(element, given)
        node.type = types.list_of(element or self.type_var())

    def map(self, node: MapNode) -> None:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            self.check(entry.key)
            key = self.join(key, entry.key.type)
            self.check(entry.value)
            value = self.join(value, self.maybe_optional(entry.value, optional=entry.optional))
        if key is None or value is None:
            key, value = self.type_var(), self.type_var()
        node.type = types.map_of(key, value)

    def maybe_optional(self, node: Node, *, optional: bool) -> Type:
        """The type of an element; what is in it if it was marked as optional."""
        if not optional:
            return node.type
        if not types.is_optional(node.type) and not node.type.is_dyn:
            self.mismatch(node, types.optional(node.type), node.type)
        return types.unwrap_optional(node.type)

    def message(self, node: StructNode) -> None:
        """Check the construction of a message or of an object: its name and each of its fields."""
        declared = self.lookup(node.name)
        if declared is None:
            self.undeclared(node, node.name)
            node.type = types.ERROR
            for field in node.fields:
                self.mark_unchecked(field.value)
            return
        node.name, identifier = declared
        node.type, name = types.ERROR, node.name
        if identifier.kind is not Kind.ERROR:
            if identifier.kind is not Kind.TYPE:
                self.problems.add(node.pos, f"'{_declared(identifier)}' is not a type")
            else:
                node.type, name = self.message_type(node, identifier.params[0], name)
        for field in node.fields:
            self.init(field, name)

    def message_type(self, node: StructNode, type: Type, name: str) -> tuple[Type, str]:
        if _is_well_known(type):
            return type, _MESSAGE_NAMES.get(type.kind, "")
        if type.kind is Kind.STRUCT:
            return type, type.name
        self.problems.add(node.pos, f"'{_declared(type)}' is not a message type")
        return types.ERROR, name

    def init(self, field: FieldInit, message: str) -> None:
        self.check(field.value)
        wanted = self.field_type(field.pos, message, field.name) or types.ERROR
        given = self.maybe_optional(field.value, optional=field.optional)
        if not self.fits(wanted, given):
            text = f"expected type of field '{field.name}' is '{wanted}' but provided type is '{given}'"
            self.problems.add(field.pos, text)

    def mark_unchecked(self, node: Node) -> None:
        for inner in walk(node):
            inner.type = types.ERROR

    def comprehension(self, node: Comprehension) -> None:
        """Check a macro's loop: the range, then condition and step with its variables in scope, then the result."""
        self.check(node.range)
        self.check(node.init)
        over = substitute(self.bound, node.range.type)
        accu = node.init.type
        self.scopes.append({node.accu: accu})
        first, second = self.ranged(node, over)
        scope = {node.var: first}
        if node.var2 is not None:
            scope[node.var2] = second
        self.scopes.append(scope)
        for part, wanted in ((node.condition, types.BOOL), (node.step, accu)):
            self.check(part)
            if not self.fits(wanted, part.type):
                self.mismatch(part, wanted, part.type)
        self.scopes.pop()
        self.check(node.result)
        self.scopes.pop()
        node.type = substitute(self.bound, node.result.type)

    def ranged(self, node: Comprehension, over: Type) -> tuple[Type, Type]:
        """The types of the variables of a fold."""
        two = node.var2 is not None
        if over.kind is Kind.LIST:
            return (types.INT, over.params[0]) if two else (over.params[0], types.ERROR)
        if over.kind is Kind.MAP:
            return over.params[0], over.params[1]
        if over.kind in (Kind.DYN, Kind.ERROR, Kind.PARAM):
            self.fits(types.DYN, over)
            return types.DYN, types.DYN
        message = f"expression of type '{over}' cannot be range of a comprehension (must be list, map, or dynamic)"
        self.problems.add(node.range.pos, message)
        return types.ERROR, types.ERROR

    # Types

    def type_var(self) -> Type:
        self.free += 1
        return types.param(f"_var{self.free - 1}")

    def fits(self, a: Type, b: Type) -> bool:
        bound = assignable(self.bound, [(a, b)])
        if bound is not None:
            self.bound = bound
        return bound is not None

    def join(self, before: Type | None, other: Type) -> Type:
        """The type of elements so far; whether they are alike is the validators' matter."""
        if before is None:
            return other
        if self.fits(before, other):
            return most_general(before, other)
        return types.DYN


def _declared(type: Type) -> str:
    return f"wrapper({type.name})" if type.nullable else type.name


def _is_well_known(type: Type) -> bool:
    if type.kind in (Kind.ANY, Kind.TIMESTAMP, Kind.DURATION, Kind.DYN, Kind.NULL):
        return True
    if type.kind is Kind.LIST:
        return type.params[0] is types.DYN
    if type.kind is Kind.MAP:
        return type.params[0] is types.STRING and type.params[1] is types.DYN
    return type.nullable
