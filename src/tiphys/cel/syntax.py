"""The syntax tree. Every node knows where its error would be shown; the checker adds types and overloads.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiphys.cel.types import Type

ACCUMULATOR = "@result"
OLD_ACCUMULATOR = "__result__"
UNUSED = "#unused"

CONDITIONAL, AND, OR, NOT, NEGATE = "_?_:_", "_&&_", "_||_", "!_", "-_"
INDEX, OPTIONAL_INDEX, OPTIONAL_SELECT, NOT_STRICTLY_FALSE = "_[_]", "_[?_]", "_?._", "@not_strictly_false"
BINARY = {
    "<": "_<_",
    "<=": "_<=_",
    ">": "_>_",
    ">=": "_>=_",
    "==": "_==_",
    "!=": "_!=_",
    "in": "@in",
    "+": "_+_",
    "-": "_-_",
    "*": "_*_",
    "/": "_/_",
    "%": "_%_",
}


class Node:
    __slots__ = ("height", "overloads", "pos", "type")

    type: Type
    """Set by the checker."""
    overloads: tuple[str, ...]
    """The overloads that a call may resolve to; set by the checker."""
    height: int
    """How many selections and operators stand on each other below it; the parser bounds it."""

    def __init__(self, pos: int) -> None:
        self.pos = pos
        self.overloads = ()
        self.height = 0

    def children(self) -> Iterator[Node]:
        return iter(())


class Literal(Node):
    __slots__ = ("value",)

    def __init__(self, pos: int, value: Any) -> None:
        super().__init__(pos)
        self.value = value


class Ident(Node):
    __slots__ = ("name",)

    def __init__(self, pos: int, name: str) -> None:
        super().__init__(pos)
        self.name = name


class Select(Node):
    """``operand.field``, or whether that is there: ``has(operand.field)``."""

    __slots__ = ("field", "operand", "resolved", "test_only")

    def __init__(self, pos: int, operand: Node, field: str, *, test_only: bool = False) -> None:
        super().__init__(pos)
        self.operand, self.field, self.test_only = operand, field, test_only
        self.resolved: str | None = None
        """The name that the whole chain stands for, such as ``authorizer.requestResource``; set by the checker."""

    def children(self) -> Iterator[Node]:
        if self.resolved is None:
            yield self.operand


class Call(Node):
    __slots__ = ("args", "function", "target")

    def __init__(self, pos: int, function: str, args: list[Node], target: Node | None = None) -> None:
        super().__init__(pos)
        self.function, self.args, self.target = function, args, target

    def children(self) -> Iterator[Node]:
        if self.target is not None:
            yield self.target
        yield from self.args


class ListNode(Node):
    __slots__ = ("elements", "optional")

    def __init__(self, pos: int, elements: list[Node], optional: frozenset[int] = frozenset()) -> None:
        super().__init__(pos)
        self.elements, self.optional = elements, optional

    def children(self) -> Iterator[Node]:
        return iter(self.elements)


class MapEntry:
    """An entry of a map; its ``pos`` is that of the colon."""

    __slots__ = ("key", "optional", "pos", "value")

    def __init__(self, pos: int, key: Node, value: Node, *, optional: bool) -> None:
        self.pos, self.key, self.value, self.optional = pos, key, value, optional


class MapNode(Node):
    __slots__ = ("entries",)

    def __init__(self, pos: int, entries: list[MapEntry]) -> None:
        super().__init__(pos)
        self.entries = entries

    def children(self) -> Iterator[Node]:
        for entry in self.entries:
            yield entry.key
            yield entry.value


class FieldInit:
    """A field of a message; its ``pos`` is that of the colon."""

    __slots__ = ("name", "optional", "pos", "value")

    def __init__(self, pos: int, name: str, value: Node, *, optional: bool) -> None:
        self.pos, self.name, self.value, self.optional = pos, name, value, optional


class StructNode(Node):
    __slots__ = ("fields", "name")

    def __init__(self, pos: int, name: str, fields: list[FieldInit]) -> None:
        super().__init__(pos)
        self.name, self.fields = name, fields

    def children(self) -> Iterator[Node]:
        return (field.value for field in self.fields)


class Comprehension(Node):
    """What a macro stands for: a fold over a list or over the keys of a map."""

    __slots__ = ("accu", "condition", "init", "range", "result", "step", "var", "var2")

    def __init__(
        self,
        pos: int,
        range: Node,
        variables: tuple[str, str | None],
        accu: str,
        init: Node,
        condition: Node,
        step: Node,
        result: Node,
    ) -> None:
        super().__init__(pos)
        self.range, self.accu, self.init = range, accu, init
        self.var, self.var2 = variables
        self.condition, self.step, self.result = condition, step, result

    def children(self) -> Iterator[Node]:
        return iter((self.range, self.init, self.condition, self.step, self.result))


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, parents first."""
    todo = [node]
    while todo:
        node = todo.pop()
        yield node
        todo += reversed(list(node.children()))


def clone(node: Node) -> Node:
    """A copy, for macros that use an argument twice."""
    match node:
        case Literal():
            return Literal(node.pos, node.value)
        case Ident():
            return Ident(node.pos, node.name)
        case Select():
            return Select(node.pos, clone(node.operand), node.field, test_only=node.test_only)
        case Call():
            target = None if node.target is None else clone(node.target)
            return Call(node.pos, node.function, [clone(arg) for arg in node.args], target)
        case ListNode():
            return ListNode(node.pos, [clone(element) for element in node.elements], node.optional)
        case MapNode():
            entries = [MapEntry(e.pos, clone(e.key), clone(e.value), optional=e.optional) for e in node.entries]
            return MapNode(node.pos, entries)
        case StructNode():
            fields = [FieldInit(f.pos, f.name, clone(f.value), optional=f.optional) for f in node.fields]
            return StructNode(node.pos, node.name, fields)
        case Comprehension():
            parts = [clone(part) for part in (node.init, node.condition, node.step, node.result)]
            return Comprehension(node.pos, clone(node.range), (node.var, node.var2), node.accu, *parts)
        case _:
            raise TypeError(type(node).__name__)


def qualified_name(node: Node) -> str | None:
    """``a.b.c`` if the node is only names."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test_only:
        before = qualified_name(node.operand)
        return None if before is None else f"{before}.{node.field}"
    return None
