"""Running an expression: the checked tree becomes nested functions, once; each run counts what it costs.

What fails raises CelError. The logical operators absorb an error if the other side decides; the accumulator of a
fold keeps one as a value. A run that costs more than it may is cancelled, which nothing absorbs.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiphys.cel import types
from tiphys.cel.arithmetic import MISSING, find
from tiphys.cel.cost import LIST_COST, MAP_COST, MESSAGE_COST
from tiphys.cel.declarations import Overload
from tiphys.cel.environment import Compiled, Environment
from tiphys.cel.library.runtimecosts import call_cost
from tiphys.cel.parsing import macros
from tiphys.cel.parsing.escaping import RESERVED
from tiphys.cel.patience import Lengthy
from tiphys.cel.patience import current as current_patience
from tiphys.cel.syntax import (
    CONDITIONAL,
    INDEX,
    OPTIONAL_INDEX,
    OPTIONAL_SELECT,
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
from tiphys.cel.values import NO_OVERLOAD, NONE, CelError, Message, Optional, shown, type_of

NO_LIMIT = 2**63


class CostExceeded(Exception):
    """The run was cancelled, because it costs more than it may."""


class _Run:
    """One evaluation: the variables, and what it has cost so far."""

    __slots__ = ("cost", "limit", "variables")

    def __init__(self, variables: dict[str, Any], limit: int) -> None:
        self.variables, self.limit, self.cost = variables, limit, 0

    def spend(self, cost: int) -> None:
        self.cost += cost
        if self.cost > self.limit:
            raise CostExceeded("operation cancelled: actual cost limit exceeded")


_Step = Callable[[_Run], Any]


class Program:
    """An expression that can be run any number of times."""

    def __init__(self, compiled: Compiled, *, fold_constants: bool = True) -> None:
        """Lists and maps of literals cost nothing if they are made once, as upstream does."""
        self._step = _Planner(compiled.environment, fold_constants=fold_constants).plan(compiled.tree)

    def run(self, variables: Mapping[str, Any], limit: int = NO_LIMIT) -> tuple[Any, int]:
        """Value and cost. Raises CelError and CostExceeded; the latter's cost is beyond the limit.

        Raises ``Lengthy`` if the caller's patience ends first.
        """
        patience = current_patience()
        if patience is None:
            run = _Run(dict(variables), limit)
            return self._step(run), run.cost
        run = _Run(dict(variables), min(limit, patience.left))
        try:
            value = self._step(run)
        except CostExceeded:
            if run.limit < limit:
                raise Lengthy from None
            raise
        finally:
            patience.spend(run.cost)
        return value, run.cost


class _Planner:
    def __init__(self, environment: Environment, *, fold_constants: bool) -> None:
        self.environment, self.fold_constants = environment, fold_constants
        self.scopes: list[tuple[frozenset[str], bool]] = []
        """The names of each fold around it, and whether its accumulator is a list or map of its own."""

    def plan(self, node: Node) -> _Step:
        """The function that computes the value of ``node`` in a run."""
        match node:
            case Literal():
                value = node.value
                return lambda run: value
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

    # Names, selections and indexes: the whole chain costs one, and one for each step

    @staticmethod
    def counted(resolve: _Step) -> _Step:
        def step(run: _Run) -> Any:
            value = resolve(run)
            run.spend(1)
            return value

        return step

    def resolve(self, node: Node) -> _Step:
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

    def name(self, name: str) -> _Step:
        """A step that reads a variable, or returns a type if the name is one.

        The step raises ``CelError`` if it is not set.
        """
        if not any(name in names for names, _ in self.scopes) and name not in self.environment.variables:
            known = self.environment.identifier(name)
            type = known.params[0] if known is not None and known.params else types.DYN
            return lambda run: type

        def step(run: _Run) -> Any:
            value = run.variables.get(name, MISSING)
            if value is MISSING:
                raise CelError(f"no such attribute(s): {name}")
            if isinstance(value, CelError):
                raise value
            return value

        return step

    def select(self, node: Select) -> _Step:
        operand, name = self.resolve(node.operand), node.field

        def step(run: _Run) -> Any:
            holder = operand(run)
            if type(holder) is Optional:
                return _of_optional(run, holder, name)
            value = _field(holder, name)
            if value is MISSING:
                raise CelError(f"no such key: {name}")
            run.spend(1)
            return value

        return step

    def presence(self, node: Select) -> _Step:
        operand, name = self.resolve(node.operand), node.field

        def step(run: _Run) -> bool:
            holder = operand(run)
            if type(holder) is Optional:
                holder = holder.value if holder.present else None
            run.spend(1)
            return _field(holder, name) is not MISSING

        return step

    def index(self, node: Call) -> _Step:
        """A step for ``list[i]``, ``map[key]`` and their optional forms.

        It raises ``CelError`` for a missing index or key.
        """
        operand, optional = self.resolve(node.args[0]), node.function != INDEX
        key = self.resolve(node.args[1])

        def step(run: _Run) -> Any:
            holder, wanted = operand(run), key(run)
            if optional or type(holder) is Optional:
                return _of_optional(run, holder, wanted)
            value = _element(holder, wanted)
            if value is MISSING:
                what = "index out of bounds" if isinstance(holder, list) else "no such key"
                raise CelError(f"{what}: {shown(wanted)}")
            run.spend(1)
            return value

        return step

    def conditional(self, node: Call) -> _Step:
        condition = self.plan(node.args[0])
        then, otherwise = self.resolve(node.args[1]), self.resolve(node.args[2])

        def step(run: _Run) -> Any:
            decided = condition(run)
            if decided is True:
                return then(run)
            if decided is False:
                return otherwise(run)
            raise CelError(NO_OVERLOAD)

        return step

    # Calls

    def call(self, node: Call) -> _Step:
        """A step for a call: operators that decide how arguments run have their own; others evaluate and spend."""
        match node.function:
            case "_&&_":
                return self.logical(node, decides=False)
            case "_||_":
                return self.logical(node, decides=True)
            case "_?_:_":
                return self.conditional(node)
            case "_[_]" | "_[?_]" | "_?._":
                return self.counted(self.index(node))
            case "@not_strictly_false":
                return self.not_strictly_false(node)
            case "or" | "orValue" if node.target is not None and _about_optionals(node):
                return self.chain(node)
        if self.owned(node.args[0] if node.args else None):
            if node.function == "_+_" and isinstance(node.args[1], ListNode) and not node.args[1].optional:
                return self.append(node, node.args[1])
            if node.function == macros.MAP_INSERT:
                return self.insert(node)
        args = node.args if node.target is None else [node.target, *node.args]
        steps = [self.plan(arg) for arg in args]
        run_call = self.bind(node)
        function = node.function
        overload = node.overloads[0] if len(node.overloads) == 1 else ""

        def step(run: _Run) -> Any:
            values = [arg(run) for arg in steps]
            result = run_call(values)
            run.spend(call_cost(function, overload, values, result))
            return result

        return step

    def bind(self, node: Call) -> Callable[[list[Any]], Any]:
        """What runs: the overload that fits the values."""
        overloads = [self.environment.overloads[id] for id in node.overloads]
        function = node.function
        run = overloads[0].run
        if function in _TRAITS and run is not None:
            return _by_kind(function, _TRAITS[function], run)
        if function in _UNGUARDED and run is not None:
            return _unguarded(overloads[0], run)

        def dispatch(values: list[Any]) -> Any:
            for overload in overloads:
                if overload.run is not None and _takes(overload, values):
                    return overload.run(*values)
            names = ", ".join(type_of(value).name for value in values)
            raise CelError(f"{NO_OVERLOAD}: {function}({names})")

        return dispatch

    def logical(self, node: Call, *, decides: bool) -> _Step:
        """A step for ``&&`` and ``||``: a side that decides hides an error of the other.

        ``decides`` is the deciding value.
        """
        left, right = self.plan(node.args[0]), self.plan(node.args[1])

        def step(run: _Run) -> Any:
            error: CelError | None = None
            for side in (left, right):
                try:
                    value = side(run)
                except CelError as wrong:
                    error = error or wrong
                    continue
                if value is decides:
                    return decides
                if type(value) is not bool:
                    error = error or CelError(NO_OVERLOAD)
            if error is not None:
                raise error
            return not decides

        return step

    def not_strictly_false(self, node: Call) -> _Step:
        inner = self.plan(node.args[0])

        def step(run: _Run) -> bool:
            try:
                value = inner(run)
            except CelError:
                value = True
            run.spend(1)
            return value is not False

        return step

    def chain(self, node: Call) -> _Step:
        """``or`` and ``orValue``, which cost nothing: the second is only evaluated if the first is none."""
        assert node.target is not None
        first, second, unwraps = self.plan(node.target), self.plan(node.args[0]), node.function == "orValue"

        def step(run: _Run) -> Any:
            value = first(run)
            if type(value) is not Optional:
                return value
            if value.present:
                return value.value if unwraps else value
            return second(run)

        return step

    # Literals with parts

    def list(self, node: ListNode) -> _Step:
        """A step that builds a list; optional elements without a value are left out."""
        steps, optional = [self.plan(element) for element in node.elements], node.optional
        cost = 0 if self.is_constant(node) else LIST_COST

        def step(run: _Run) -> Any:
            items = list[Any]()
            for i, element in enumerate(steps):
                value = element(run)
                if i in optional:
                    if type(value) is not Optional:
                        message = "cannot initialize optional list element from non-optional value"
                        raise CelError(f"{message} {shown(value)}")
                    if not value.present:
                        continue
                    value = value.value
                items.append(value)
            run.spend(cost)
            return items

        return step

    def map(self, node: MapNode) -> _Step:
        """A step that builds a map.

        It raises ``CelError`` for repeated keys and keys of other types than CEL allows.
        """
        steps = [(self.plan(entry.key), self.plan(entry.value), entry.optional) for entry in node.entries]
        cost = 0 if self.is_constant(node) else MAP_COST

        def step(run: _Run) -> Any:
            entries = dict[Any, Any]()
            for key, value, optional in steps:
                name, item = key(run), value(run)
                if type_of(name).kind not in _KEYS:
                    raise CelError(f"unsupported key type: {type_of(name).name}")
                if optional and (item := _initial(name, item)) is MISSING:
                    entries.pop(name, None)
                    continue
                if name in entries:
                    raise CelError(f"Failed with repeated key: {shown(name)}")
                entries[name] = item
            run.spend(cost)
            return entries

        return step

    def is_constant(self, node: Node) -> bool:
        if not self.fold_constants:
            return False
        if isinstance(node, ListNode):
            return not node.optional and all(self.is_constant(element) for element in node.elements)
        if isinstance(node, MapNode):
            inner = all(self.is_constant(part) for part in node.children())
            return inner and not any(entry.optional for entry in node.entries)
        return isinstance(node, Literal)

    def message(self, node: StructNode) -> _Step:
        """A step that builds a message; optional fields without a value are left out."""
        steps = [(field.name, self.plan(field.value), field.optional) for field in node.fields]
        name = node.name

        def step(run: _Run) -> Any:
            fields = dict[str, Any]()
            for field, value, optional in steps:
                given = value(run)
                if optional and (given := _initial(field, given)) is MISSING:
                    fields.pop(field, None)
                else:
                    fields[field] = given
            run.spend(MESSAGE_COST)
            return Message(name, fields)

        return step

    # Folds

    def owned(self, node: Node | None) -> bool:
        """Whether the node is an accumulator that nothing else holds, so that it may be changed in place."""
        if not isinstance(node, Ident):
            return False
        for names, owned in reversed(self.scopes):
            if node.name in names:
                return owned and node.name.startswith("@result")
        return False

    def append(self, node: Call, items: ListNode) -> _Step:
        accu = self.plan(node.args[0])
        element, cost = self.plan(items.elements[0]), 0 if self.is_constant(items) else LIST_COST

        def step(run: _Run) -> Any:
            target = accu(run)
            value = element(run)
            run.spend(cost + 1)
            target.append(value)
            return target

        return step

    def insert(self, node: Call) -> _Step:
        steps = [self.plan(arg) for arg in node.args]

        def step(run: _Run) -> Any:
            target, *more = [arg(run) for arg in steps]
            entries = more[0] if len(more) == 1 else {more[0]: more[1]}
            for key in entries:
                if key in target:
                    raise CelError(f"insert failed: key {shown(key)} already exists")
            run.spend(1)
            target.update(entries)
            return target

        return step

    def fold(self, node: Comprehension) -> _Step:
        """A step for a comprehension: it binds the loop's variables, and restores what they hid when it ends."""
        over, init = self.plan(node.range), self.plan(node.init)
        names = frozenset(filter(None, (node.accu, node.var, node.var2)))
        fresh = isinstance(node.init, ListNode | MapNode) and not any(True for _ in node.init.children())
        self.scopes.append((names, fresh))
        condition, body, result = (self.plan(part) for part in (node.condition, node.step, node.result))
        self.scopes.pop()
        accu, first, second = node.accu, node.var, node.var2

        def step(run: _Run) -> Any:
            items = _turns(over(run), pairs=second is not None)
            variables = run.variables
            before = {name: variables.get(name, MISSING) for name in names}
            try:
                variables[accu] = _kept(init, run)
                for item in items:
                    if second is None:
                        variables[first] = item
                    else:
                        variables[first], variables[second] = item
                    if _kept(condition, run) is False:
                        break
                    variables[accu] = _kept(body, run)
                return result(run)
            finally:
                for name, value in before.items():
                    if value is MISSING:
                        variables.pop(name, None)
                    else:
                        variables[name] = value

        return step


def _by_kind(function: str, allowed: frozenset[Kind], run: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def call(values: list[Any]) -> Any:
        if type_of(values[0]).kind not in allowed:
            raise CelError(f"{NO_OVERLOAD}: {function}")
        return run(*values)

    return call


def _unguarded(overload: Overload, run: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def call(values: list[Any]) -> Any:
        if not _takes(overload, values) and overload.function != "@in":
            raise CelError(NO_OVERLOAD)
        return run(*values)

    return call


_KEYS = frozenset((Kind.BOOL, Kind.INT, Kind.UINT, Kind.STRING, Kind.DOUBLE))
_ORDERED = frozenset(
    (Kind.BOOL, Kind.BYTES, Kind.DOUBLE, Kind.DURATION, Kind.INT, Kind.STRING, Kind.TIMESTAMP, Kind.UINT)
)
_NUMBERS = frozenset((Kind.DOUBLE, Kind.INT, Kind.UINT))
_TRAITS = {
    "_+_": (_ORDERED - {Kind.BOOL}) | {Kind.LIST},
    "_-_": _NUMBERS | {Kind.DURATION, Kind.TIMESTAMP},
    "_*_": _NUMBERS,
    "_/_": _NUMBERS,
    "_%_": frozenset((Kind.INT, Kind.UINT)),
    "-_": frozenset((Kind.INT, Kind.DOUBLE, Kind.DURATION)),
    "_<_": _ORDERED,
    "_<=_": _ORDERED,
    "_>_": _ORDERED,
    "_>=_": _ORDERED,
    "size": frozenset((Kind.STRING, Kind.BYTES, Kind.LIST, Kind.MAP)),
    "matches": frozenset((Kind.STRING,)),
}
"""Functions that look only at the kind of their first argument, and which it may be."""
_UNGUARDED = frozenset(("contains", "startsWith", "endsWith", "@in"))
"""Functions whose error says only that no overload matches."""


def _kept(step: _Step, run: _Run) -> Any:
    try:
        return step(run)
    except CelError as wrong:
        return wrong


def _turns(over: Any, *, pairs: bool) -> list[Any]:
    if isinstance(over, list):
        return list(enumerate(over)) if pairs else over
    if isinstance(over, Mapping):
        return list(over.items()) if pairs else list(over)
    raise CelError(f"got '{type_of(over).name}', expected iterable type")


def _field(holder: Any, name: str) -> Any:
    if isinstance(holder, dict):
        value = holder.get(name, MISSING)
        if value is MISSING and name in RESERVED:
            return holder.get(f"__{name}__", MISSING)
        return value
    if isinstance(holder, Message):
        return holder.fields.get(name, MISSING)
    return holder.get(name, MISSING) if isinstance(holder, Mapping) else MISSING


def _element(holder: Any, key: Any) -> Any:
    if isinstance(holder, list):
        if isinstance(key, bool) or not isinstance(key, int | float) or key != int(key):
            raise CelError(f"unsupported index type '{type_of(key).name}' in list")
        return holder[int(key)] if 0 <= key < len(holder) else MISSING
    if isinstance(holder, Mapping):
        return find(holder, key)
    return _field(holder, key) if isinstance(key, str) else MISSING


def _of_optional(run: _Run, holder: Any, key: Any) -> Optional:
    if type(holder) is Optional:
        if not holder.present:
            return holder
        holder = holder.value
    value = _field(holder, key) if isinstance(key, str) and not isinstance(holder, list) else _element(holder, key)
    if value is MISSING:
        return NONE
    run.spend(1)
    return Optional(value)


def _initial(name: Any, value: Any) -> Any:
    """What an optional entry is made with; MISSING if it is left out."""
    if type(value) is not Optional:
        raise CelError(f"cannot initialize optional entry '{shown(name)}' from non-optional value {shown(value)}")
    return value.value if value.present else MISSING


def _about_optionals(node: Call) -> bool:
    return node.overloads in (("optional_or_optional",), ("optional_orValue_value",))


def _takes(overload: Overload, values: list[Any]) -> bool:
    return len(values) == len(overload.args) and all(map(_is_a, overload.args, values))


def _is_a(type: types.Type, value: Any) -> bool:
    if type.kind in (Kind.DYN, Kind.ANY, Kind.PARAM):
        return True
    actual = type_of(value)
    if type.kind is not actual.kind or type.name != actual.name:
        return False
    if type.kind is Kind.LIST and value:
        return _is_a(type.params[0], value[0])
    return True
