"""The rules of a schema, compiled and laid out as the schema is; and the walk over a value that evaluates them.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from tiphys.api import fielderrors
from tiphys.api.fielderrors import OMITTED, FieldError
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.structural import RULES
from tiphys.cel.environments import PER_CALL_LIMIT
from tiphys.cel.evaluator import CostExceeded, Program
from tiphys.cel.rules import OLD_SELF, SELF, CompiledRule, Scope
from tiphys.cel.schema.schematypes import decl_type
from tiphys.cel.schema.schemavalues import Convert, converter
from tiphys.cel.values import NONE, CelError, Optional
from tiphys.validation.apiextensions.structural import field_path

_BUDGET = 10_000_000
_MAX_MESSAGE = 5 * 1024
_EMBEDDED, _LIST_TYPE, _MAP_TYPE = (
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
)


@dataclass(slots=True)
class SchemaRule:
    source: Mapping[str, Any]
    compiled: CompiledRule
    program: Program | None
    message: Program | None
    field_path: str = ""

    @property
    def text(self) -> str:
        return str(self.source.get("message") or self.source.get("rule") or "").strip()


@dataclass(slots=True)
class RulePlan:
    """The rules for one place of a schema, and the plans for what is below it."""

    schema: Object
    rules: list[SchemaRule] = field(default_factory=list)
    properties: dict[str, RulePlan] = field(default_factory=dict)
    additional: RulePlan | None = None
    items: RulePlan | None = None
    all_of: list[RulePlan] = field(default_factory=list)
    convert: Convert | None = None

    def __bool__(self) -> bool:
        return bool(self.rules or self.properties or self.additional or self.items or self.all_of)


def make_plan(rules: Object, node: Object, *, is_resource: bool) -> RulePlan | None:
    """``rules`` says which rules there are, ``node`` the types: they differ below ``allOf``. None without rules."""
    plan = RulePlan(node)
    if rules.get(RULES):
        plan.rules = _compile(rules[RULES], node, is_resource=is_resource)
        plan.convert = converter(node)
    for name, inner in (rules.get("properties") or {}).items():
        if name in (node.get("properties") or {}) and (below := _below(inner, node["properties"][name])):
            plan.properties[name] = below
    for key in ("items", "additionalProperties"):
        inner, typed = rules.get(key), node.get(key)
        if isinstance(inner, dict) and isinstance(typed, dict) and (below := _below(inner, typed)):
            if key == "items":
                plan.items = below
            else:
                plan.additional = below
    plan.all_of = [
        inner_plan
        for inner in rules.get("allOf") or ()
        if (inner_plan := make_plan(inner, node, is_resource=is_resource))
    ]
    return plan or None


def _below(rules: Object, node: Object) -> RulePlan | None:
    return make_plan(rules, node, is_resource=bool(node.get(_EMBEDDED)))


def _compile(rules: list[Object], node: Object, *, is_resource: bool) -> list[SchemaRule]:
    decl = decl_type(node, is_resource=is_resource)
    if decl is None:
        return []
    scope = Scope(decl)
    return [_rule(rule, scope.compile(rule), node) for rule in rules]


def _rule(source: Object, compiled: CompiledRule, node: Object) -> SchemaRule:
    program = Program(compiled.rule) if compiled.rule is not None else None
    message = Program(compiled.message) if compiled.message is not None else None
    rule = SchemaRule(source, compiled, program, message)
    if where := source.get("fieldPath"):
        problem, names, _ = field_path(where, node)
        rule.field_path = "" if problem else ".".join(names)
    return rule


@dataclass(frozen=True, slots=True)
class _Before:
    """The value and what it was before: of the place itself, and of the nearest around it that is known from before."""

    current: tuple[Any, Any] | None = None
    nearest: tuple[Any, Any] | None = None

    @property
    def unchanged(self) -> bool:
        pair = self.current if self.current is not None else self.nearest
        return pair is not None and bool(pair[0] == pair[1])

    def below(self, pair: tuple[Any, Any] | None) -> _Before:
        return self if self.current is None else _Before(pair, self.current)


class _Stop(Exception):
    """No further rules are evaluated."""


class Checking:
    """One check of one value: what was found, and what may still be spent."""

    def __init__(self, warnings: list[str] | None) -> None:
        self.errors: list[FieldError] = []
        self.warnings = warnings if warnings is not None else []
        self.budget = _BUDGET

    def check(self, plan: RulePlan, obj: Any, old: Any, path: str, *, ratchets: bool = True) -> list[FieldError]:
        with suppress(_Stop):
            self._check(plan, obj, old, path, _Before((obj, old)) if ratchets and old is not None else _Before())
        return self.errors

    def _check(self, plan: RulePlan, obj: Any, old: Any, path: str, before: _Before) -> None:
        if obj is None:
            return
        if plan.rules:
            self._rules(plan, obj, old, path or "<nil>", before)
        for inner in plan.all_of:
            self._check(inner, obj, old, path, replace(before, current=None))
        if isinstance(obj, list) and plan.items is not None:
            self._list(plan, plan.items, obj, old, path, before)
        elif isinstance(obj, dict):
            self._map(plan, obj, old if isinstance(old, dict) else {}, path, before)

    def _map(self, plan: RulePlan, obj: Object, old: Object, path: str, before: _Before) -> None:
        correlates = plan.schema.get(_MAP_TYPE) in (None, "granular", "atomic")
        for name, value in obj.items():
            inner, at = plan.properties.get(name), f"{path}.{name}" if path else name
            if inner is None:
                inner, at = plan.additional, f"{path}[{name}]"
            if inner is None:
                continue
            was = old.get(name) if correlates else None
            below = before.below((value, was) if correlates and name in old else None)
            self._check(inner, value, was, at, below)

    def _list(self, plan: RulePlan, inner: RulePlan, obj: list[Any], old: Any, path: str, before: _Before) -> None:
        keys = plan.schema.get("x-kubernetes-list-map-keys") or ()
        is_map = plan.schema.get(_LIST_TYPE) == "map"
        known = {_key(item, keys): item for item in old} if is_map and isinstance(old, list) else {}
        for i, value in enumerate(obj):
            was = known.get(_key(value, keys)) if is_map else None
            self._check(inner, value, was, f"{path}[{i}]", before.below((value, was) if was is not None else None))

    def _rules(self, plan: RulePlan, obj: Any, old: Any, path: str, before: _Before) -> None:
        """Evaluate the rules of one node; stops when the budget is used up."""
        kind = plan.schema.get("type") or ""
        if self.budget <= 0:
            self._out_of_budget(path, kind)
        convert = plan.convert or (lambda value: value)
        value = convert(obj)
        was = convert(old) if old is not None else None
        for rule in plan.rules:
            if rule.compiled.error:
                message = f"rule compile error: {rule.compiled.error}"
                self.errors.append(fielderrors.invalid(path, kind, message))
                continue
            optional = bool(rule.source.get("optionalOldSelf"))
            if rule.program is None or (rule.compiled.uses_old_self and old is None and not optional):
                continue
            variables = {SELF: value}
            if optional:
                variables[OLD_SELF] = NONE if old is None else Optional(was)
            elif old is not None:
                variables[OLD_SELF] = was
            if not self._holds(rule, variables, path, kind):
                self._failed(rule, variables, obj, path, kind, before)

    def _holds(self, rule: SchemaRule, variables: Object, path: str, kind: str) -> bool:
        """Whether the rule is kept, or could not be evaluated, which is an error already."""
        assert rule.program is not None
        try:
            result, cost = rule.program.run(variables, PER_CALL_LIMIT)
        except CostExceeded as wrong:
            if self.budget < PER_CALL_LIMIT:
                self._out_of_budget(path, kind)
            message = "no further validation rules will be run due to call cost exceeds limit for rule"
            self.errors.append(fielderrors.invalid(path, kind, f"'{wrong}': {message}: {rule.text}"))
            raise _Stop from None
        except CelError as wrong:
            if str(wrong).startswith("no such overload"):
                message = "call arguments did not match a supported operator, function or macro signature for rule"
                self.errors.append(fielderrors.invalid(path, kind, f"'{wrong}': {message}: {rule.text}"))
            else:
                self.errors.append(fielderrors.invalid(path, kind, f"{wrong} evaluating rule: {rule.text}"))
            return True
        if cost > self.budget:
            self._out_of_budget(path, kind)
        self.budget -= cost
        return result is True

    def _out_of_budget(self, path: str, kind: str) -> None:
        message = "validation failed due to running out of cost budget, no further validation rules will be run"
        self.errors.append(fielderrors.invalid(path, kind, message))
        raise _Stop

    def _failed(self, rule: SchemaRule, variables: Object, obj: Any, path: str, kind: str, before: _Before) -> None:
        if rule.field_path:
            path = rule.field_path if path == "<nil>" else f"{path}.{rule.field_path}"
        detail = self._message(rule, variables, path, kind)
        if detail is None:
            detail = str(rule.source.get("message") or "").strip() or f"failed rule: {rule.text}"
        error = _error(rule, path, OMITTED if kind in ("object", "array") else obj, detail)
        if not rule.compiled.uses_old_self and before.unchanged:
            self.warnings.append(str(error))
        else:
            self.errors.append(error)

    def _message(self, rule: SchemaRule, variables: Object, path: str, kind: str) -> str | None:
        """What the message expression gives; None if it gives nothing that can be shown."""
        if rule.message is None:
            return None
        message = ""
        try:
            text, cost = rule.message.run(variables, PER_CALL_LIMIT)
        except CelError:
            return None
        except CostExceeded:
            message = "no further validation rules will be run due to call cost exceeds limit for messageExpression: "
            message += quote(rule.source.get("messageExpression") or "")
            text, cost = "", 0
        if cost > self.budget:
            message = (
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules"
            )
            message += " will be run"
        if message:
            self.errors.append(fielderrors.invalid(path, kind, message))
            raise _Stop
        self.budget -= cost
        text = text.strip() if isinstance(text, str) else ""
        return text if text and len(text.encode()) <= _MAX_MESSAGE and "\n" not in text else None


def _key(item: Any, keys: Any) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in keys) if isinstance(item, dict) else ()


def _error(rule: SchemaRule, path: str, value: Any, detail: str) -> FieldError:
    match rule.source.get("reason"):
        case "FieldValueForbidden":
            return fielderrors.forbidden(path, detail)
        case "FieldValueRequired":
            return fielderrors.required(path, detail)
        case "FieldValueDuplicate":
            return fielderrors.duplicate(path, value)
    return fielderrors.invalid(path, value, detail)
