"""Rules in the schema of a custom resource: that they compile, and that they cannot cost too much.

A rule runs once for each value that its schema describes. What it costs at most is the cost of one run times how many
such values an object can have, which the limits of the lists and maps around it bound.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from dataclasses import field as member
from typing import TYPE_CHECKING

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
)

if TYPE_CHECKING:
    from tiphys.cel.rules import CompiledRule

RULES = "x-kubernetes-validations"
_MAX_COST, _MAX_TOTAL = 10_000_000, 100_000_000
_MAX_UINT = 2**64 - 1
_TOLD_EXPENSIVE = 4


@dataclass
class Total:
    """The cost of all rules of a schema, and the most expensive of them."""

    cost: int = 0
    expensive: list[tuple[int, str]] = member(default_factory=list)

    def add(self, path: str, cost: int) -> None:
        self.cost = min(self.cost + cost, _MAX_UINT)
        if cost >= _MAX_TOTAL // 100:
            self.expensive.append((cost, path))
            self.expensive.sort(key=lambda entry: -entry[0])
            del self.expensive[_TOLD_EXPENSIVE:]

    def check(self, errs: Errors, path: str) -> None:
        if self.cost <= _MAX_TOTAL:
            return
        message = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        for _, at in self.expensive:
            errs.append(field.forbidden(at, message))
        what = f"{RULES} estimated rule cost total for entire OpenAPIv3 schema"
        errs.append(field.forbidden(path, _exceeds(what, self.cost, _MAX_TOTAL)))


@dataclass(frozen=True, slots=True)
class SchemaPlace:
    """Where in a schema we are, as far as its rules need it."""

    total: Total
    is_resource: bool = True
    count: int | None = 1
    """How many values there can be at most; None if nothing bounds it."""
    uncorrelated: str = ""
    """The innermost list around it whose items have no identity: old and new ones cannot be matched."""

    def below(self, parent: Object) -> SchemaPlace:
        """Inside the schema's items, properties or additional properties."""
        limit = _max_elements(parent)
        count = None if self.count is None or limit is None else min(self.count * limit, _MAX_UINT)
        return replace(self, is_resource=False, count=count)

    def in_list(self, parent: Object, path: str) -> SchemaPlace:
        inner = self.below(parent)
        if parent.get("x-kubernetes-list-type") == "map" or self.uncorrelated:
            return inner
        return replace(inner, uncorrelated=path)


def _max_elements(schema: Object) -> int | None:
    if schema.get("type") == "object" and schema.get("additionalProperties") is not None:
        limit = schema.get("maxProperties")
    elif schema.get("type") == "array":
        limit = schema.get("maxItems")
    else:
        return 1
    return None if limit is None else max(limit, 0)


def check_rules(errs: Errors, schema: Object, path: str, place: SchemaPlace) -> None:
    """Compile the rules of one schema node and add their costs up; appends to ``errs``."""
    from tiphys.cel.rules import Scope
    from tiphys.cel.schema.schematypes import decl_type

    decl = decl_type(schema, is_resource=place.is_resource or bool(schema.get("x-kubernetes-embedded-resource")))
    if decl is None:
        message = (
            f"internal error: failed to construct type information for {RULES} rules: unable to convert structural "
            "schema to CEL declarations"
        )
        errs.append(field.internal(f"{path}.{RULES}", message))
        return
    scope = Scope(decl)
    for i, rule in enumerate(schema[RULES]):
        compiled = scope.compile(rule)
        count = scope.max_count if place.count is None else place.count
        _check_rule(errs, rule, f"{path}.{RULES}[{i}]", compiled, min(compiled.cost * count, _MAX_UINT), place)


def _check_rule(errs: Errors, rule: Object, path: str, compiled: CompiledRule, cost: int, place: SchemaPlace) -> None:
    if cost > _MAX_COST:
        errs.append(field.forbidden(f"{path}.rule", _exceeds("estimated rule cost", cost, _MAX_COST)))
    place.total.add(f"{path}.rule", cost)
    if compiled.error:
        errs.append(field.invalid(f"{path}.rule", _shown(rule), compiled.error))
    if compiled.message_error:
        errs.append(field.invalid(f"{path}.messageExpression", _shown(rule), compiled.message_error))
    elif compiled.message is not None:
        if compiled.message_cost > _MAX_COST:
            message = _exceeds("estimated messageExpression cost", compiled.message_cost, _MAX_COST)
            errs.append(field.forbidden(f"{path}.messageExpression", message))
        place.total.add(f"{path}.messageExpression", compiled.message_cost)
    if compiled.uses_old_self:
        if place.uncorrelated:
            message = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
            errs.append(field.invalid(f"{path}.rule", rule.get("rule"), message))
    elif rule.get("optionalOldSelf") is not None:
        message = "may not be set if oldSelf is not used in rule"
        errs.append(field.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], message))


def _shown(rule: Object) -> Object:
    """A rule as errors show it: all its fields, by the names they have inside upstream."""
    names = ("Rule", "Message", "MessageExpression", "Reason", "FieldPath", "OptionalOldSelf")
    empty = {"Reason": None, "OptionalOldSelf": None}
    return {name: rule.get(name[0].lower() + name[1:], empty.get(name, "")) for name in names}


def _exceeds(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    if factor > 100:
        times = "more than 100x"
    elif factor < 1.5:
        times = f"{factor:f}x"
    else:
        times = f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {times} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )
