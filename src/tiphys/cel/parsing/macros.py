"""The macros: calls that stand for a larger expression, mostly a fold over a list or a map.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from tiphys.cel.parsing.parser import Macro, MacroError
from tiphys.cel.syntax import (
    ACCUMULATOR,
    AND,
    CONDITIONAL,
    NOT,
    NOT_STRICTLY_FALSE,
    OLD_ACCUMULATOR,
    OR,
    UNUSED,
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    clone,
)

_NOT_A_NAME, _NOT_AN_IDENTIFIER = "argument must be a simple name", "argument is not an identifier"
MAP_INSERT = "cel.@mapInsert"
SORT_BY_KEYS = "@sortByAssociatedKeys"
_SORT_INPUT = "@__sortBy_input__"


def _name(arg: Node, otherwise: str) -> str:
    if not isinstance(arg, Ident):
        raise MacroError(arg, otherwise)
    if arg.name in (ACCUMULATOR, OLD_ACCUMULATOR):
        raise MacroError(arg, "iteration variable overwrites accumulator variable")
    return arg.name


def _two_names(first: Node, second: Node) -> tuple[str, str]:
    for arg in (first, second):
        if not isinstance(arg, Ident):
            raise MacroError(arg, _NOT_A_NAME)
    assert isinstance(first, Ident)
    assert isinstance(second, Ident)
    if first.name == second.name:
        raise MacroError(second, f"duplicate variable name: {first.name}")
    return _name(first, _NOT_A_NAME), _name(second, _NOT_A_NAME)


class _Fold:
    """Makes the parts of a fold, all at the position of the call."""

    def __init__(self, at: int, target: Node | None, variables: tuple[str, str | None]) -> None:
        assert target is not None
        self.at, self.target, self.variables = at, target, variables

    def accu(self) -> Node:
        return Ident(self.at, ACCUMULATOR)

    def call(self, function: str, *args: Node) -> Node:
        return Call(self.at, function, list(args))

    def literal(self, value: object) -> Node:
        return Literal(self.at, value)

    def fold(self, init: Node, step: Node, condition: Node | None = None, result: Node | None = None) -> Node:
        condition = condition or self.literal(value=True)
        result = result or self.accu()
        return Comprehension(self.at, self.target, self.variables, ACCUMULATOR, init, condition, step, result)

    def quantifier(self, kind: str, predicate: Node) -> Node:
        if kind == "all":
            condition = self.call(NOT_STRICTLY_FALSE, self.accu())
            return self.fold(self.literal(value=True), self.call(AND, self.accu(), predicate), condition)
        if kind == "exists":
            condition = self.call(NOT_STRICTLY_FALSE, self.call(NOT, self.accu()))
            return self.fold(self.literal(value=False), self.call(OR, self.accu(), predicate), condition)
        more = self.call("_+_", self.accu(), self.literal(1))
        step = self.call(CONDITIONAL, predicate, more, self.accu())
        return self.fold(self.literal(0), step, result=self.call("_==_", self.accu(), self.literal(1)))

    def collect(self, init: Node, step: Node, only_if: Node | None) -> Node:
        if only_if is not None:
            step = self.call(CONDITIONAL, only_if, step, self.accu())
        return self.fold(init, step)


def _has(at: int, _target: Node | None, args: list[Node]) -> Node:
    arg = args[0]
    if not isinstance(arg, Select):
        raise MacroError(arg, "invalid argument to has() macro")
    return Select(at, arg.operand, arg.field, test_only=True)


def _quantifier(kind: str) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        return _Fold(at, target, (_name(args[0], _NOT_A_NAME), None)).quantifier(kind, args[1])

    return expand


def make_map(at: int, target: Node | None, args: list[Node]) -> Node:
    fold = _Fold(at, target, (_name(args[0], _NOT_AN_IDENTIFIER), None))
    only_if = args[1] if len(args) == 3 else None
    step = fold.call("_+_", fold.accu(), ListNode(at, [args[-1]]))
    return fold.collect(ListNode(at, []), step, only_if)


def _filter(at: int, target: Node | None, args: list[Node]) -> Node:
    fold = _Fold(at, target, (_name(args[0], _NOT_AN_IDENTIFIER), None))
    step = fold.call("_+_", fold.accu(), ListNode(at, [args[0]]))
    return fold.collect(ListNode(at, []), step, args[1])


def _quantifier_of_two(kind: str) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        return _Fold(at, target, _two_names(args[0], args[1])).quantifier(kind, args[2])

    return expand


def _transform_list(at: int, target: Node | None, args: list[Node]) -> Node:
    fold = _Fold(at, target, _two_names(args[0], args[1]))
    only_if = args[2] if len(args) == 4 else None
    step = fold.call("_+_", fold.accu(), ListNode(at, [args[-1]]))
    return fold.collect(ListNode(at, []), step, only_if)


def _transform_map(at: int, target: Node | None, args: list[Node]) -> Node:
    first, second = _two_names(args[0], args[1])
    fold = _Fold(at, target, (first, second))
    only_if = args[2] if len(args) == 4 else None
    step = fold.call(MAP_INSERT, fold.accu(), Ident(at, first), args[-1])
    return fold.collect(MapNode(at, []), step, only_if)


def _transform_map_entry(at: int, target: Node | None, args: list[Node]) -> Node:
    fold = _Fold(at, target, _two_names(args[0], args[1]))
    only_if = args[2] if len(args) == 4 else None
    return fold.collect(MapNode(at, []), fold.call(MAP_INSERT, fold.accu(), args[-1]), only_if)


def bind(at: int, name: str, value: Node, result: Node) -> Node:
    """``result`` with a name for ``value``: a fold over nothing."""
    return Comprehension(
        at, ListNode(at, []), (UNUSED, None), name, value, Literal(at, value=False), Ident(at, name), result
    )


def _opt_map(*, flat: bool) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        assert target is not None
        variable = args[0]
        if not isinstance(variable, Ident):
            name = "optFlatMap" if flat else "optMap"
            raise MacroError(variable, f"{name}() variable name must be a simple identifier")
        mapped = bind(at, variable.name, Call(at, "value", [], clone(target)), args[1])
        if not flat:
            mapped = Call(at, "optional.of", [mapped])
        return Call(at, CONDITIONAL, [Call(at, "hasValue", [], target), mapped, Call(at, "optional.none", [])])

    return expand


def _sort_by(at: int, target: Node | None, args: list[Node]) -> Node:
    if not isinstance(target, ListNode | Select | Ident | Comprehension | Call):
        assert target is not None
        message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression"
        raise MacroError(target, message)
    keys = make_map(at, Ident(at, _SORT_INPUT), args)
    return bind(at, _SORT_INPUT, target, Call(at, SORT_BY_KEYS, [keys], Ident(at, _SORT_INPUT)))


def _bind_macro(at: int, target: Node | None, args: list[Node]) -> Node | None:
    if not (isinstance(target, Ident) and target.name == "cel"):
        return None
    if not isinstance(args[0], Ident):
        raise MacroError(args[0], "cel.bind() variable names must be simple identifiers")
    return bind(at, args[0].name, args[1], args[2])


STANDARD: dict[tuple[str, int, bool], Macro] = {
    ("has", 1, False): _has,
    ("all", 2, True): _quantifier("all"),
    ("exists", 2, True): _quantifier("exists"),
    ("exists_one", 2, True): _quantifier("exists_one"),
    ("existsOne", 2, True): _quantifier("exists_one"),
    ("map", 2, True): make_map,
    ("map", 3, True): make_map,
    ("filter", 2, True): _filter,
}
OPTIONALS: dict[tuple[str, int, bool], Macro] = {
    ("optMap", 2, True): _opt_map(flat=False),
    ("optFlatMap", 2, True): _opt_map(flat=True),
}
TWO_VARIABLES: dict[tuple[str, int, bool], Macro] = {
    ("all", 3, True): _quantifier_of_two("all"),
    ("exists", 3, True): _quantifier_of_two("exists"),
    ("existsOne", 3, True): _quantifier_of_two("exists_one"),
    ("exists_one", 3, True): _quantifier_of_two("exists_one"),
    ("transformList", 3, True): _transform_list,
    ("transformList", 4, True): _transform_list,
    ("transformMap", 3, True): _transform_map,
    ("transformMap", 4, True): _transform_map,
    ("transformMapEntry", 3, True): _transform_map_entry,
    ("transformMapEntry", 4, True): _transform_map_entry,
}
LISTS: dict[tuple[str, int, bool], Macro] = {("sortBy", 2, True): _sort_by}
BINDINGS: dict[tuple[str, int, bool], Macro] = {("bind", 3, True): _bind_macro}
