"""Which requests a webhook or a policy applies to.

Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from dataclasses import field as member

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.cel.expression import Expression, Use
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label_selector,
    one_of,
    qualified,
    with_repeats,
)
from tiphys.validation.shared.expressions import check

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
MUTATING_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")


@dataclass(frozen=True, slots=True)
class Context:
    """What expressions may refer to, and which were there before."""

    has_params: bool = False
    stored: Collection[str] = member(default_factory=frozenset)


def rule_with_operations(errs: Errors, rule: Object, path: str) -> None:
    operations = rule.get("operations") or []
    if not operations:
        errs.append(field.required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        text = "if '*' is present, must not specify other operations"
        errs.append(field.invalid(f"{path}.operations", operations, text))
    for i, operation in enumerate(operations):
        one_of(errs, operation, f"{path}.operations[{i}]", OPERATIONS)
    _rule(errs, rule, path)


def _rule(errs: Errors, rule: Object, path: str) -> None:
    groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
    if not groups:
        errs.append(field.required(f"{path}.apiGroups"))
    if len(groups) > 1 and "*" in groups:
        text = "if '*' is present, must not specify other API groups"
        errs.append(field.invalid(f"{path}.apiGroups", groups, text))
    if not versions:
        errs.append(field.required(f"{path}.apiVersions"))
    if len(versions) > 1 and "*" in versions:
        text = "if '*' is present, must not specify other API versions"
        errs.append(field.invalid(f"{path}.apiVersions", versions, text))
    for i, version in enumerate(versions):
        if not version:
            errs.append(field.required(f"{path}.apiVersions[{i}]"))
    _resources(errs, rule.get("resources") or [], f"{path}.resources")
    if rule.get("scope") is not None:
        one_of(errs, rule["scope"], f"{path}.scope", _SCOPES)


def _resources(errs: Errors, resources: Sequence[str], path: str) -> None:
    """Validate the resources of a rule; wildcards may not overlap. Appends to ``errs``."""
    if not resources:
        errs.append(field.required(path))
    wild_subresources, wild_resources = set[str](), set[str]()
    plain = False
    for i, resource in enumerate(resources):
        if not resource:
            errs.append(field.required(f"{path}[{i}]"))
            continue
        name, slash, sub = resource.partition("/")
        if not slash:
            plain = resource != "*"
            continue
        if name in wild_subresources:
            text = f"if '{name}/*' is present, must not specify {resource}"
            errs.append(field.invalid(f"{path}[{i}]", resource, text))
        if sub in wild_resources:
            text = f"if '*/{sub}' is present, must not specify {resource}"
            errs.append(field.invalid(f"{path}[{i}]", resource, text))
        if sub == "*":
            wild_subresources.add(name)
        if name == "*":
            wild_resources.add(sub)
    if len(resources) > 1 and "*/*" in resources:
        errs.append(field.invalid(path, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and plain:
        text = "if '*' is present, must not specify other resources without subresources"
        errs.append(field.invalid(path, resources, text))


def match_resources(errs: Errors, match: Object | None, path: str) -> None:
    """Validate ``matchResources``: policy, selectors and rules; appends to ``errs``."""
    if match is None:
        return
    if match.get("matchPolicy") is None:
        errs.append(field.required(f"{path}.matchPolicy"))
    else:
        one_of(errs, match["matchPolicy"], f"{path}.matchPolicy", MATCH_POLICIES)
    for key in ("namespaceSelector", "objectSelector"):
        if match.get(key) is None:
            errs.append(field.required(f"{path}.{key}"))
        else:
            label_selector(errs, match[key], f"{path}.{key}")
    for key in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(key) or ()):
            _named_rule(errs, rule, f"{path}.{key}[{i}]")


def _named_rule(errs: Errors, rule: Object, path: str) -> None:
    for i, name, repeated in with_repeats(rule.get("resourceNames") or ()):
        invalid_all(errs, f"{path}.resourceNames[{i}]", name, names.path_segment_name(name))
        if repeated:
            errs.append(field.duplicate(f"{path}.resourceNames[{i}]", name))
    rule_with_operations(errs, rule, path)


def mutating_operations(errs: Errors, match: Object | None, path: str) -> None:
    """Nothing is left to change when an object is deleted."""
    for rule in (match or {}).get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            one_of(errs, operation, f"{path}.resourceRules.operations", MUTATING_OPERATIONS)


def match_conditions(errs: Errors, conditions: Sequence[Object] | None, context: Context, path: str) -> None:
    """Validate at most 64 match conditions, their expressions and unique names; appends to ``errs``."""
    items = conditions or []
    seen: set[str] = set()
    if len(items) > 64:
        errs.append(field.too_many(path, len(items), 64))
    for i, condition in enumerate(items):
        expression, name = (condition.get("expression") or "").strip(), condition.get("name") or ""
        if not expression:
            errs.append(field.required(f"{path}[{i}].expression"))
        else:
            stored = expression in context.stored
            wanted = Expression(expression, Use.MATCH_CONDITION, context.has_params, stored=stored)
            check(errs, wanted, f"{path}[{i}].expression")
        if not name:
            errs.append(field.required(f"{path}[{i}].name"))
            continue
        qualified(errs, name, f"{path}[{i}].name")
        if name in seen:
            errs.append(field.duplicate(f"{path}[{i}].name", name))
        seen.add(name)
