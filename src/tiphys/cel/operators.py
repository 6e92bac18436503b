"""The source of calls: what is likely by the types of the operands is tried first, at its cost.

Every other combination of values is left to the overloads, which say also what does not fit.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from typing import NamedTuple

from tiphys.cel.calls import bind
from tiphys.cel.environment import Environment
from tiphys.cel.library.runtimecosts import Cost, call_cost
from tiphys.cel.syntax import Call, Node
from tiphys.cel.types import Kind
from tiphys.cel.values import MAX_INT, MIN_INT
from tiphys.cel.writer import FunctionWriter

_EQUALITY = {"_==_": ("==", "equality"), "_!=_": ("!=", "inequality")}
_ORDER = {"_<_": "<", "_<=_": "<=", "_>_": ">", "_>=_": ">="}
_ARITHMETIC = {"_+_": "+", "_-_": "-", "_*_": "*"}
_TEXTS = {
    "startsWith": ("{a}.startswith({b})", "(len({a}) + 9) // 10"),
    "endsWith": ("{a}.endswith({b})", "(len({a}) + 9) // 10"),
    "contains": ("{b} in {a}", "((len({a}) + 9) // 10) * ((len({b}) + 9) // 10)"),
    "_+_": ("{a} + {b}", "(len({a}) + len({b}) + 9) // 10"),
    **{function: (f"{{a}} {sign} {{b}}", "(min(len({a}), len({b})) + 9) // 10") for function, sign in _ORDER.items()},
}
"""What a function of two texts is, and what it costs."""
_CLASSES: dict[Kind, type] = {Kind.INT: int, Kind.STRING: str, Kind.BOOL: bool}
_SIZED: dict[Kind, type] = {Kind.STRING: str, Kind.LIST: list, Kind.MAP: dict}


class Value(NamedTuple):
    """What a node gave: a name or a literal in the source."""

    text: str
    certain: type | None = None
    """The class of the value, if nothing else can be."""


class Operators:
    """Writes the calls of one expression; their arguments are there already."""

    def __init__(self, environment: Environment, writer: FunctionWriter) -> None:
        self.environment, self.writer = environment, writer

    def call(self, node: Call, values: list[Value]) -> Value:
        """The result of a function for these arguments, the target first."""
        args = node.args if node.target is None else [node.target, *node.args]
        if node.function == "dyn":
            name = self.writer.temp()
            self.writer.line(f"{name} = {values[0].text}")
            self.writer.spend(1)
            return Value(name, values[0].certain)
        if node.function in _EQUALITY:
            return self.compared(node.function, values, self.likely(args, values))
        if len(args) == 2:
            return self.binary(node, values, self.likely(args, values), args[1].type.kind)
        if node.function == "!_":
            return self.either(node, values, f"not {values[0].text}", [bool], bool)
        if node.function == "size" and (sized := _SIZED.get(args[0].type.kind)):
            return self.either(node, values, f"len({values[0].text})", [sized], int)
        return self.general(node, values)

    def binary(self, node: Call, values: list[Value], kind: type | None, right: Kind) -> Value:
        a, b = (value.text for value in values)
        function, cost = node.function, self.cost(node)
        if kind is str and function in _TEXTS and cost != 1:
            result, amount = (form.format(a=a, b=b) for form in _TEXTS[function])
            return self.measured(node, values, result, amount)
        if cost == 1 and function in _ORDER and kind in (int, str):
            return self.either(node, values, f"{a} {_ORDER[function]} {b}", [kind, kind], bool)
        if cost == 1 and function in _ARITHMETIC and kind is int:
            return self.arithmetic(node, values, f"{a} {_ARITHMETIC[function]} {b}")
        if cost == 1 and function == "@in" and right in (Kind.MAP, Kind.DYN):
            return self.either(node, values, f"{a} in {b}", [str, dict], bool)
        return self.general(node, values)

    @staticmethod
    def likely(args: list[Node], values: list[Value]) -> type | None:
        """The class that both operands have if the types, as far as they are known, are right."""
        kinds = {value.certain or _CLASSES.get(arg.type.kind) for arg, value in zip(args, values, strict=True)}
        kinds.discard(None)
        return kinds.pop() if len(kinds) == 1 else None

    # Forms

    def either(self, node: Call, values: list[Value], form: str, classes: list[type | None], result: type) -> Value:
        """``form`` if the values have these classes, or the overloads, at a cost of one."""
        writer, name, test = self.writer, self.writer.temp(), _are(values, classes)
        writer.line(f"{f'if {test}: ' if test else ''}{name} = {form}")
        if test:
            with writer.block("else:"):
                writer.seldom(self.run(node, values, name), "1", 1)
        writer.spend(1)
        return Value(name, result)

    def arithmetic(self, node: Call, values: list[Value], form: str) -> Value:
        writer, name, test = self.writer, self.writer.temp(), _are(values, [int, int])
        with writer.block(f"if {test or 'True'}:"):
            writer.line(f"{name} = {form}")
            writer.fail_if(f"not {MIN_INT} <= {name} <= {MAX_INT}", "overflow()")
        if test:
            with writer.block("else:"):
                writer.seldom(self.run(node, values, name), "1", 1)
        writer.spend(1)
        return Value(name, None if test else int)

    def measured(self, node: Call, values: list[Value], form: str, amount: str) -> Value:
        """``form`` if the values are texts, or the overloads, at costs that depend on the values."""
        writer, name, test = self.writer, self.writer.temp(), _are(values, [str, str])
        if test:
            writer.may_fail()
        with writer.block(f"if {test or 'True'}:"):
            writer.line(f"{name} = {form}")
            writer.line(f"c += {amount}")
        if test:
            with writer.block("else:"):
                writer.line(self.run(node, values, name))
                writer.line(f"c += {self.amount(node, values, name)}")
        writer.check()
        return Value(name, None if node.function == "_+_" else bool)

    def compared(self, function: str, values: list[Value], kind: type | None) -> Value:
        """Write ``==`` or ``!=`` of two values, in one comparison if both are known to be of one plain kind."""
        writer, name, test = self.writer, self.writer.temp(), _are(values, [kind, kind])
        sign, helper = _EQUALITY[function]
        a, b = (value.text for value in values)
        slow = f"{name}, n = {helper}({a}, {b})"
        if kind in (int, bool):
            writer.line(f"{f'if {test}: ' if test else ''}{name} = {a} {sign} {b}")
            if test:
                with writer.block("else:"):
                    writer.seldom(slow, "n", 1)
            writer.spend(1)
        elif kind is str:
            writer.flush()
            writer.line(f"if {test or 'True'}: {name} = {a} {sign} {b}; c += (min(len({a}), len({b})) + 9) // 10")
            if test:
                writer.line(f"else: {slow}; c += n")
            writer.check()
        else:
            writer.flush()
            writer.line(slow)
            writer.spend_more("n")
        return Value(name, bool)

    def general(self, node: Call, values: list[Value]) -> Value:
        writer, name = self.writer, self.writer.temp()
        writer.may_fail()
        writer.line(self.run(node, values, name))
        cost = self.cost(node)
        if isinstance(cost, int):
            writer.spend(cost)
        else:
            writer.spend_more(self.amount(node, values, name))
        return Value(name)

    # Parts

    def cost(self, node: Call) -> Cost:
        return call_cost(node.function, node.overloads[0] if len(node.overloads) == 1 else "")

    def run(self, node: Call, values: list[Value], name: str) -> str:
        overloads = [self.environment.overloads[id] for id in node.overloads]
        function = self.writer.names.constant(bind(node.function, overloads), "run")
        return f"{name} = {function}({', '.join(value.text for value in values)})"

    def amount(self, node: Call, values: list[Value], result: str) -> str:
        """The cost of a call, in the source."""
        cost = self.cost(node)
        if isinstance(cost, int):
            return str(cost)
        args = "".join(f"{value.text}, " for value in values)
        return f"{self.writer.names.constant(cost, 'cost')}(({args}), {result})"


def _are(values: list[Value], classes: list[type | None]) -> str:
    """A test whether the values have the classes; empty if that is certain."""
    tests = [
        f"{value.text}.__class__ is {kind.__name__}"
        for value, kind in zip(values, classes, strict=True)
        if kind is not None and value.certain is not kind
    ]
    return " and ".join(tests)
