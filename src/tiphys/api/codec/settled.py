"""What an object is like once it has been stored.

Upstream stores its own kinds as protobuf, which has no empty lists: what was sent as ``rules: []`` is read back as
``rules: null``. Only fields that the wire form always shows can distinguish the two; each type that holds such a field,
or leads to one, has a plan, made once. Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.schema import ARRAY, MAP, OBJECT, Schema


class _Plan:
    """``emptied``: the fields that become null if they are empty. ``nested``: where to continue."""

    __slots__ = ("emptied", "nested")

    def __init__(self) -> None:
        self.emptied: list[str] = []
        self.nested: list[tuple[str, bool, _Plan]] = []
        """Field, whether it holds several, and the plan of what it holds."""

    def leads_on(self, seen: set[int]) -> bool:
        if self.emptied or id(self) in seen:
            return bool(self.emptied)
        seen.add(id(self))
        return any(inner.leads_on(seen) for _, _, inner in self.nested)


_plans: dict[int, _Plan] = {}
_kept: list[Schema] = []


def settle(obj: dict[str, Any], schema: Schema) -> None:
    """Make of ``obj``, in place, what is read back of it."""
    plan = _plans.get(id(schema.fields))
    if plan is None:
        plan = _plan(schema)
        _prune(plan, set())
    _settle(obj, plan)


def _settle(obj: dict[str, Any], plan: _Plan) -> None:
    for name in plan.emptied:
        if name in obj and not obj[name]:
            obj[name] = None
    for name, several, inner in plan.nested:
        value = obj.get(name)
        if not value:
            continue
        if several:
            for item in value.values() if isinstance(value, dict) else value:
                _settle(item, inner)
        else:
            _settle(value, inner)


def _plan(schema: Schema) -> _Plan:
    identity = id(schema.fields)
    if identity in _plans:
        return _plans[identity]
    plan = _plans[identity] = _Plan()
    _kept.append(schema)  # so that its id cannot become another's
    for field in schema.fields.values():
        kind, items = field.schema.kind, field.schema.items
        if kind in (ARRAY, MAP) and not field.omit_empty:
            plan.emptied.append(field.name)
        if kind == OBJECT:
            plan.nested.append((field.name, False, _plan(field.schema)))
        elif kind in (ARRAY, MAP) and items is not None and items.kind == OBJECT:
            plan.nested.append((field.name, True, _plan(items)))
    return plan


def _prune(plan: _Plan, seen: set[int]) -> None:
    """Drop the ways that lead nowhere."""
    if id(plan) in seen:
        return
    seen.add(id(plan))
    plan.nested = [step for step in plan.nested if step[2].leads_on(set())]
    for _, _, inner in plan.nested:
        _prune(inner, seen)
