"""Filling in what the wire form always shows.

Some fields of Go's types have no notion of being absent: structs that are no pointers, and fields without
``omitempty``. Upstream shows them always (``status: {}``, ``resources: {}``, ``rules: null``), and tracks who owns
them. ``complete`` adds them to an object that has its defaults.

Each type that holds such a field, or leads to one, has a plan, made once; others cost nothing.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.schema import (
    ARRAY,
    BOOLEAN,
    INT_OR_STRING,
    INTEGER,
    MAP,
    MICRO_TIME,
    NUMBER,
    OBJECT,
    QUANTITY,
    RAW,
    STRING,
    TIME,
    Field,
    Schema,
)

_STRUCTS = (OBJECT, TIME, MICRO_TIME, QUANTITY, INT_OR_STRING, RAW)
"""Kinds that Go represents by structs, for which ``omitempty`` means nothing."""
_ZERO = {STRING: "", BOOLEAN: False, INTEGER: 0, NUMBER: 0, INT_OR_STRING: 0, QUANTITY: "0"}

_ONE, _EACH_ITEM, _EACH_VALUE, _EACH_ITEM_OF_EACH = range(4)


class CompletionPlan:
    """``fixed``: fields always shown and their value if absent. ``made``: structs that are always there. ``nested``:
    where to continue, by field: the shape, and the plan of what is there."""

    __slots__ = ("fixed", "made", "nested")

    def __init__(self) -> None:
        self.fixed: list[tuple[str, Any]] = []
        self.made: list[str] = []
        self.nested: dict[str, tuple[int, CompletionPlan]] = {}


_plans: dict[int, CompletionPlan] = {}
_kept: list[Schema] = []


def complete(obj: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """Add, in place, what the wire form of the type always shows."""
    plan = _plans.get(id(schema.fields))
    _fill(obj, plan if plan is not None else _plan(schema))
    return obj


def _fill(obj: dict[str, Any], plan: CompletionPlan) -> None:
    """Add the fields that the wire form always shows, at every depth; in place."""
    for name, value in plan.fixed:
        if name not in obj:
            obj[name] = value
    for name in plan.made:
        if obj.get(name) is None:
            obj[name] = {}
    nested = plan.nested
    for name in nested.keys() & obj.keys():
        child = obj[name]
        if child is None:
            continue
        shape, inner = nested[name]
        if shape == _ONE:
            _fill(child, inner)
        elif shape == _EACH_ITEM:
            for item in child:
                _fill(item, inner)
        elif shape == _EACH_VALUE:
            for item in child.values():
                _fill(item, inner)
        else:
            for items in child.values():
                for item in items or ():
                    _fill(item, inner)


def _plan(schema: Schema) -> CompletionPlan:
    """The plan of a type, made together with those of all that it leads to; types that lead nowhere get empty ones."""
    reached: dict[int, Schema] = {}
    _collect(schema, reached)
    useful = {identity for identity, plan in _plans.items() if plan.fixed or plan.nested}
    useful |= {identity for identity, node in reached.items() if any(_always(f) for f in node.fields.values())}
    grown = True
    while grown:
        leading = {i for i, node in reached.items() if any(id(t.fields) in useful for t, _ in _targets(node))}
        grown = not leading <= useful
        useful |= leading
    _plans.update({identity: CompletionPlan() for identity in reached})
    _kept.extend(reached.values())
    for identity, node in reached.items():
        for field in node.fields.values():
            _add(_plans[identity], field, useful)
    return _plans[id(schema.fields)]


def _add(plan: CompletionPlan, field: Field, useful: set[int]) -> None:
    target = _target(field.schema)
    leads_on = target is not None and id(target[0].fields) in useful
    always = _always(field)
    if field.schema.kind == OBJECT and always and not field.pointer:
        # A new dict each time: what is filled in belongs to one object only.
        assert target is not None
        plan.made.append(field.name)
        plan.nested[field.name] = (_ONE, _plans[id(target[0].fields)])
        return
    if always:
        plan.fixed.append((field.name, None if field.pointer else _ZERO.get(field.schema.kind)))
    if leads_on and target is not None:
        plan.nested[field.name] = (target[1], _plans[id(target[0].fields)])


def _always(field: Field) -> bool:
    if field.pointer:
        return not field.omit_empty
    if field.omit_zero:
        return False
    return not field.omit_empty or field.schema.kind in _STRUCTS


def shown_as_null(field: Field) -> bool:
    """Whether the wire form shows the field as null if it is absent."""
    kind = field.schema.kind
    return _always(field) and (field.pointer or (kind != OBJECT and kind not in _ZERO))


def _target(schema: Schema) -> tuple[Schema, int] | None:
    """The object type that a field leads to, and how."""
    if schema.kind == OBJECT:
        return schema, _ONE
    items = schema.items
    if items is None:
        return None
    if items.kind == OBJECT:
        if schema.kind in (ARRAY, MAP):
            return items, _EACH_ITEM if schema.kind == ARRAY else _EACH_VALUE
        return None
    if schema.kind == MAP and items.kind == ARRAY and items.items is not None and items.items.kind == OBJECT:
        return items.items, _EACH_ITEM_OF_EACH
    return None


def _targets(schema: Schema) -> list[tuple[Schema, int]]:
    return [target for f in schema.fields.values() if (target := _target(f.schema)) is not None]


def _collect(schema: Schema, reached: dict[int, Schema]) -> None:
    identity = id(schema.fields)
    if identity in _plans or identity in reached:
        return
    reached[identity] = schema
    for target, _ in _targets(schema):
        _collect(target, reached)
