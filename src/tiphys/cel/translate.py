"""From a checked expression to the source of a Python function, which gives its value and counts its cost.

A node becomes statements, and the name of the variable that has its value then. Folds are loops, variables of folds
are local variables, and the logical operators are ``try`` statements, as each absorbs an error if the other side
decides. The values at hand decide what an operator does; what is likely by the static types is tried in the source
itself, everything else is a call of ``steps`` or of the function's overloads. The accumulator of a fold keeps an error
as a value.

Names, texts and numbers of an expression enter as constants, never as source: names in it are the translator's own.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from tiphys.cel import steps, types
from tiphys.cel.arithmetic import MISSING
from tiphys.cel.cost import LIST_COST, MAP_COST, MESSAGE_COST
from tiphys.cel.environment import Environment
from tiphys.cel.limits import exceeded
from tiphys.cel.operators import Operators, Value
from tiphys.cel.parsing import macros
from tiphys.cel.parsing.escaping import RESERVED
from tiphys.cel.syntax import (
    ACCUMULATOR,
    CONDITIONAL,
    INDEX,
    NOT_STRICTLY_FALSE,
    OPTIONAL_INDEX,
    OPTIONAL_SELECT,
    OR,
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
from tiphys.cel.types import Kind
from tiphys.cel.values import NONE, CelError, Message, Optional
from tiphys.cel.writer import FunctionWriter, Names
from tiphys.runtime.remembering import remembered

_HELPERS: dict[str, Any] = {
    "M": MISSING,
    "E": CelError,
    "NONE": NONE,
    "Message": Message,
    "Optional": Optional,
    "exceeded": exceeded,
    "absent": steps.absent,
    "no_overload": steps.no_overload,
    "overflow": steps.overflow,
    "kept": steps.kept,
    "field": steps.field,
    "no_field": steps.no_field,
    "present": steps.present,
    "element": steps.element,
    "of_optional": steps.of_optional,
    "turns": steps.turns,
    "paired_turns": steps.paired_turns,
    "insert": steps.insert,
    "add_optional": steps.add_optional,
    "add_entry": steps.add_entry,
    "add_field": steps.add_field,
    "equality": steps.equality,
    "inequality": steps.inequality,
}
_LITERALS = (bool, int, str, type(None))
"""What may stand in the source as it is."""


def translate(tree: Node, environment: Environment) -> Callable[[Any, Any], Any]:
    """A function of a run and its variables."""
    names = Names(_HELPERS)
    functions = list[str]()
    _Translator(environment, names, functions, []).write(tree, "f")
    exec(_code("\n".join(functions)), names.globals)
    made: Callable[[Any, Any], Any] = names.globals["f"]
    return made


@remembered(256, longest=16_384)
def _code(source: str) -> CodeType:
    """Expressions that differ in constants only, such as those of two versions of a schema, have the same source."""
    return compile(source, "<expression>", "exec", dont_inherit=True)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The variables of one fold, and their names in the source."""

    names: dict[str, str]
    accu: str
    owned: bool = False
    """Whether the accumulator is a list or map of its own, that may be changed in place."""
    fails: bool = True
    """Whether the accumulator may be an error."""


class _Translator:
    """Writes one function; what is nested too deep for one becomes another, which it calls."""

    def __init__(self, environment: Environment, names: Names, functions: list[str], scopes: list[_Scope]) -> None:
        self.environment, self.names, self.functions, self.scopes = environment, names, functions, scopes
        self.writer = FunctionWriter(names)
        self.operators = Operators(environment, self.writer)
        self.inputs: dict[str, str] = {}

    def write(self, node: Node, name: str) -> list[str]:
        """Append the source of a function that gives the node's value; returns the variables that it is given."""
        given = list(dict.fromkeys(text for scope in self.scopes for text in scope.names.values()))
        value = self.plan(node)
        self.writer.flush()
        self.writer.line(f"return {value.text}")
        header = f"def {name}({', '.join(['r', 'V', *given])}):"
        self.functions.append(self.writer.function(header, self.inputs))
        return given

    def plan(self, node: Node) -> Value:
        """Write what computes the value of ``node``."""
        if self.writer.crowded and isinstance(node, Call | Comprehension):
            return self.elsewhere(node)
        match node:
            case Literal():
                return self.literal(node.value)
            case Select() if node.test_only:
                return self.presence(node)
            case Ident() | Select():
                return self.counted(self.resolve(node))
            case Call():
                return self.call(node)
            case ListNode():
                return self.list(node)
            case MapNode():
                return self.map(node)
            case StructNode():
                return self.message(node)
            case Comprehension():
                return self.fold(node)
        raise TypeError(type(node).__name__)

    def elsewhere(self, node: Node) -> Value:
        name, value = self.names.fresh("f"), self.writer.temp()
        given = _Translator(self.environment, self.names, self.functions, self.scopes).write(node, name)
        self.writer.may_fail()
        self.writer.line("r.cost = c")
        self.writer.line(f"try: {value} = {name}({', '.join(['r', 'V', *given])})")
        self.writer.line("finally: c = r.cost")
        return Value(value)

    def literal(self, value: Any) -> Value:
        if type(value) not in _LITERALS:
            return Value(self.names.constant(value), type(value))
        return Value(f"({value!r})" if type(value) is int else repr(value), type(value))

    # Names, selections and indexes: the whole chain costs one, and one for each step

    def counted(self, value: Value) -> Value:
        self.writer.spend(1)
        return value

    def resolve(self, node: Node) -> Value:
        """What the node stands for, without the cost of the chain."""
        if isinstance(node, Ident):
            return self.name(node.name)
        if isinstance(node, Select) and not node.test_only:
            return self.name(node.resolved) if node.resolved is not None else self.select(node)
        if isinstance(node, Call) and node.function in (INDEX, OPTIONAL_INDEX, OPTIONAL_SELECT):
            return self.index(node)
        if isinstance(node, Call) and node.function == CONDITIONAL:
            return self.conditional(node)
        return self.plan(node)

    def name(self, name: str) -> Value:
        """A variable, which may not be set, or an error; a type if the name is one."""
        for scope in reversed(self.scopes):
            if name in scope.names:
                text = scope.names[name]
                if name == scope.accu and scope.fails:
                    self.writer.fail_if(f"{text}.__class__ is E", text)
                return Value(text)
        if name not in self.environment.variables:
            known = self.environment.identifier(name)
            return Value(self.names.constant(known.params[0] if known is not None and known.params else types.DYN))
        text = self.inputs.get(name) or self.inputs.setdefault(name, self.names.fresh("v"))
        if text not in self.writer.checked:
            self.writer.fail_if(f"{text} is M", f"absent({name!r})")
            self.writer.checked.add(text)
        return Value(text)

    def select(self, node: Select) -> Value:
        holder, name = self.resolve(node.operand).text, node.field
        writer, value = self.writer, self.writer.temp()
        general = f"field({holder}, {name!r})"
        usual = f"{holder}.get({name!r}, M) if {holder}.__class__ is dict else {general}"
        writer.line(f"{value} = {general if name in RESERVED else usual}")
        with writer.block(f"if {value} is M:"):
            writer.seldom(f"{value}, n = no_field({holder}, {name!r})", "n", 1)
        writer.spend(1)
        return Value(value)

    def presence(self, node: Select) -> Value:
        holder, name = self.resolve(node.operand).text, node.field
        value, general = self.writer.temp(), f"present({holder}, {name!r})"
        usual = f"{name!r} in {holder} if {holder}.__class__ is dict else {general}"
        self.writer.line(f"{value} = {general if name in RESERVED else usual}")
        self.writer.spend(1)
        return Value(value, bool)

    def index(self, node: Call) -> Value:
        """``list[i]``, ``map[key]`` and their optional forms."""
        writer, holder, value = self.writer, self.writer.temp(), self.writer.temp()
        writer.line(f"{holder} = {self.resolve(node.args[0]).text}")
        key = self.resolve(node.args[1]).text
        if node.function != INDEX:
            writer.may_fail()
            writer.line(f"{value}, n = of_optional({holder}, {key})")
            writer.spend_more("n")
            return Value(value)
        if node.args[1].type.kind is Kind.INT:
            is_list = f"{holder}.__class__ is list and {key}.__class__ is int and -1 < {key} < len({holder})"
            writer.line(f"{value} = {holder}[{key}] if {is_list} else M")
        else:
            is_map = f"{holder}.__class__ is dict and {key}.__class__ is str"
            writer.line(f"{value} = {holder}.get({key}, M) if {is_map} else M")
        with writer.block(f"if {value} is M:"):
            writer.seldom(f"{value}, n = element({holder}, {key})", "n", 1)
        writer.spend(1)
        return Value(value)

    def conditional(self, node: Call) -> Value:
        value = self.writer.temp()

        def give(part: Node) -> Callable[[], None]:
            return lambda: self.writer.line(f"{value} = {self.resolve(part).text}")

        self.branch(node.args[0], give(node.args[1]), give(node.args[2]))
        return Value(value)

    def branch(self, condition: Node, then: Callable[[], None], otherwise: Callable[[], None] | None) -> None:
        writer, decided = self.writer, self.plan(condition)
        writer.flush()
        for answer, part in ((True, then), (False, otherwise)):
            with writer.block(f"if {decided.text} is {answer}:"):
                if part is None:
                    writer.line("pass")
                else:
                    part()
                    writer.flush()
        if decided.certain is not bool:
            writer.fail_if(f"{decided.text} is not True and {decided.text} is not False", "no_overload()")

    # Calls

    def call(self, node: Call) -> Value:
        """Operators that decide which arguments are evaluated have their own form."""
        match node.function:
            case "_&&_" | "_||_":
                return self.logical(node)
            case "_?_:_":
                return self.conditional(node)
            case "_[_]" | "_[?_]" | "_?._":
                return self.counted(self.index(node))
            case "or" | "orValue" if node.target is not None and node.overloads in _CHAINS:
                return self.chain(node, node.target)
        if self.owned(node):
            return self.add(node)
        args = node.args if node.target is None else [node.target, *node.args]
        return self.operators.call(node, [self.plan(arg) for arg in args])

    def logical(self, node: Call) -> Value:
        """A side that decides hides an error of the others; without one, the first error counts."""
        decides = node.function == OR
        writer, value, error = self.writer, self.writer.temp(), self.writer.temp()
        writer.flush()
        start, depth, errs = len(writer.lines), writer.depth, False
        with writer.block("while True:", blocks=1):
            for side in _sides(node, node.function):
                errs |= self.side(side, error, f"{value} = {decides}; break", decides=decides)
            if errs:
                writer.fail_if(f"{error} is not None", error)
            writer.line(f"{value} = {not decides}; break")
        if errs:
            writer.lines.insert(start, (depth, f"{error} = None"))
        return Value(value, bool)

    def side(self, node: Node, error: str, then: str, *, decides: bool) -> bool:
        """One side of a logical operator; returns whether it may give an error, which it leaves in ``error``."""
        writer, mixed = self.writer, False

        def body() -> None:
            nonlocal mixed
            value = self.plan(node)
            writer.flush()
            writer.line(f"if {value.text} is {decides}: {then}")
            if value.certain is not bool:
                mixed = True
                writer.line(f"if {value.text} is not {not decides} and {error} is None: {error} = no_overload()")

        return writer.guarded(body, f"if {error} is None: {error} = x") or mixed

    def chain(self, node: Call, first: Node) -> Value:
        """``or`` and ``orValue``, which cost nothing: the second is only evaluated if the first is none."""
        writer, value, given = self.writer, self.writer.temp(), self.plan(first).text
        writer.flush()
        with writer.block(f"if {given} is NONE:"):
            writer.line(f"{value} = {self.plan(node.args[0]).text}")
            writer.flush()
        unwrapped = f"{given}.value if {given}.__class__ is Optional else {given}"
        writer.line(f"else: {value} = {unwrapped if node.function == 'orValue' else given}")
        return Value(value)

    # Literals with parts

    def list(self, node: ListNode) -> Value:
        """Optional elements without a value are left out."""
        writer, cost = self.writer, 0 if _is_constant(node) else LIST_COST
        if not node.optional:
            elements = ", ".join(self.plan(element).text for element in node.elements)
            value = writer.temp()
            writer.line(f"{value} = [{elements}]")
        else:
            value = writer.temp()
            writer.line(f"{value} = []")
            for i, element in enumerate(node.elements):
                given = self.plan(element).text
                writer.may_fail()
                add = f"add_optional({value}, {given})" if i in node.optional else f"{value}.append({given})"
                writer.line(add)
        writer.spend(cost)
        return Value(value, list)

    def map(self, node: MapNode) -> Value:
        writer, value = self.writer, self.writer.temp()
        writer.line(f"{value} = {{}}")
        for entry in node.entries:
            key, given = self.plan(entry.key).text, self.plan(entry.value).text
            writer.may_fail()
            writer.line(f"add_entry({value}, {key}, {given}, optional={entry.optional})")
        writer.spend(0 if _is_constant(node) else MAP_COST)
        return Value(value, dict)

    def message(self, node: StructNode) -> Value:
        """Optional fields without a value are left out."""
        writer, fields, value = self.writer, self.writer.temp(), self.writer.temp()
        writer.line(f"{fields} = {{}}")
        for field in node.fields:
            given = self.plan(field.value).text
            if field.optional:
                writer.may_fail()
                writer.line(f"add_field({fields}, {field.name!r}, {given})")
            else:
                writer.line(f"{fields}[{field.name!r}] = {given}")
        writer.line(f"{value} = Message({node.name!r}, {fields})")
        writer.spend(MESSAGE_COST)
        return Value(value)

    # Folds

    def fold(self, node: Comprehension) -> Value:
        if isinstance(node.condition, Call) and node.condition.function == NOT_STRICTLY_FALSE:
            assert isinstance(node.step, Call)
            return self.quantifier(node, node.step)
        if isinstance(node.range, ListNode) and not node.range.elements:
            return self.binding(node)
        return self.collection(node)

    def turns(self, node: Comprehension) -> str:
        """The iterator over the range."""
        over, items = self.plan(node.range).text, self.writer.temp()
        self.writer.may_fail()
        if node.var2 is None:
            self.writer.line(f"{items} = iter({over} if {over}.__class__ is list else turns({over}))")
        else:
            self.writer.line(f"{items} = iter(paired_turns({over}))")
        return items

    def variables(self, node: Comprehension) -> dict[str, str]:
        return {name: self.names.fresh("i") for name in (node.var, node.var2) if name is not None}

    def quantifier(self, node: Comprehension, step: Call) -> Value:
        """``all`` and ``exists``: an error counts only if no later element decides.

        Testing the accumulator costs less while it is an error: ``condition`` less.
        """
        decides = step.function == OR
        condition = 3 if decides else 2
        writer, value, error = self.writer, self.writer.temp(), self.writer.temp()
        items, names = self.turns(node), self.variables(node)
        start, depth = len(writer.lines), writer.depth
        writer.line(f"{value} = {not decides}")
        done = f"{error} = None; {value} = {decides}; c += 0 if next({items}, M) is M else {condition}; break"
        self.scopes.append(_Scope(names, ""))
        with writer.block(f"for {', '.join(names.values())} in {items}:", blocks=1):
            first = len(writer.lines)
            writer.pending = condition + 1
            errs = self.side(step.args[1], error, done, decides=decides)
            writer.check()
            if errs:
                writer.lines.insert(first, (writer.depth, f"if {error} is not None: c -= {condition}"))
        self.scopes.pop()
        if errs:
            writer.lines.insert(start, (depth, f"{error} = None"))
            writer.fail_if(f"{error} is not None", error)
        writer.spend(1)
        return Value(value, bool)

    def kept(self, node: Node) -> tuple[str, bool]:
        """The variable that has the node's value, or its error; and whether it may be one."""
        value = self.writer.temp()
        self.writer.flush()
        fails = self.writer.guarded(
            lambda: self.writer.line(f"{value} = {self.plan(node).text}"),
            f"{value} = x",
        )
        return value, fails

    def binding(self, node: Comprehension) -> Value:
        """A name for a value: a fold over nothing."""
        accu, fails = self.kept(node.init)
        self.scopes.append(_Scope({node.accu: accu}, node.accu, fails=fails))
        value = self.plan(node.result)
        self.scopes.pop()
        return value

    def collection(self, node: Comprehension) -> Value:
        """A fold whose steps make the accumulator."""
        writer, items = self.writer, self.turns(node)
        accu, _ = self.kept(node.init)
        fresh = isinstance(node.init, ListNode | MapNode) and not any(True for _ in node.init.children())
        names = self.variables(node)
        self.scopes.append(_Scope({node.accu: accu, **names}, node.accu, owned=fresh))
        writer.flush()
        with writer.block(f"for {', '.join(names.values())} in {items}:", blocks=1):
            writer.guarded(lambda: self.assign(accu, node.accu, node.step), f"{accu} = x")
            writer.check()
        value = self.plan(node.result)
        self.scopes.pop()
        return value

    def assign(self, accu: str, name: str, node: Node) -> None:
        """A step: what stays as it is costs nothing, nor does a branch that takes it."""
        if isinstance(node, Call) and node.function == CONDITIONAL:
            condition, then, otherwise = node.args
            assert isinstance(otherwise, Ident)
            assert otherwise.name == name
            self.branch(condition, lambda: self.assign(accu, name, then), None)
            return
        value = self.plan(node).text
        if value != accu:
            self.writer.line(f"{accu} = {value}")

    def owned(self, node: Call) -> bool:
        """Whether a call adds to an accumulator that nothing else holds, so that it may be changed in place."""
        holder = node.args[0] if node.args else None
        if not isinstance(holder, Ident) or not holder.name.startswith(ACCUMULATOR):
            return False
        scope = next((scope for scope in reversed(self.scopes) if holder.name in scope.names), None)
        if scope is None or not scope.owned:
            return False
        more = node.args[1:]
        is_append = node.function == "_+_" and isinstance(more[0], ListNode) and not more[0].optional
        return is_append or node.function == macros.MAP_INSERT

    def add(self, node: Call) -> Value:
        """To an accumulator, which stays the same list or map."""
        accu, added = self.plan(node.args[0]), node.args[1]
        if isinstance(added, ListNode) and node.function != macros.MAP_INSERT:
            value = self.plan(added.elements[0]).text
            self.writer.line(f"{accu.text}.append({value})")
            self.writer.spend(1 if _is_constant(added) else LIST_COST + 1)
            return accu
        more = ", ".join(self.plan(arg).text for arg in node.args[1:])
        self.writer.may_fail()
        self.writer.line(f"insert({accu.text}, {more})")
        self.writer.spend(1)
        return accu


_CHAINS = (("optional_or_optional",), ("optional_orValue_value",))


def _sides(node: Node, function: str) -> Iterator[Node]:
    """The operands of a chain of the same logical operator."""
    if isinstance(node, Call) and node.function == function:
        for arg in node.args:
            yield from _sides(arg, function)
    else:
        yield node


def _is_constant(node: Node) -> bool:
    """Whether a list or map is made of literals only; one that is made once costs nothing."""
    if isinstance(node, ListNode):
        return not node.optional and all(map(_is_constant, node.elements))
    if isinstance(node, MapNode):
        return all(map(_is_constant, node.children())) and not any(entry.optional for entry in node.entries)
    return isinstance(node, Literal)
