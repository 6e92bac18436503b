"""Type checking of a ValidatingAdmissionPolicy: each expression against every kind that its rules name. Pure.

Problems are only reported: the policy works as before, and what an expression does with an object of another shape is
for the object to show. Source: KEP-3488 (type checking).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.cel import environments, types
from tiphys.cel.environment import CompileError, Environment
from tiphys.cel.schema.decltypes import DeclType

Resource = tuple[str, str, str]
"""Group, version and plural."""

MAX_TYPES = 10
"""Kinds that one policy is checked against at most."""


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """``kinds`` are sorted; ``params`` is None if the policy has none, and of no type if that is not known."""

    kinds: tuple[tuple[GroupVersionKind, DeclType], ...]
    has_params: bool = False
    params: DeclType | None = None


def resources_of(policy: Object) -> Iterator[Resource]:
    """What the rules name outright, rule by rule; one with a wildcard names no kind, and subresources have none."""
    constraints = policy["spec"].get("matchConstraints") or {}
    for rule in constraints.get("resourceRules") or ():
        groups, versions = (sorted(rule.get(key) or ()) for key in ("apiGroups", "apiVersions"))
        if any("*" in text for text in (*groups, *versions)):
            continue
        plurals = sorted(text for text in rule.get("resources") or () if "*" not in text and "/" not in text)
        yield from ((group, version, plural) for group in groups for version in versions for plural in plurals)


def kinds_to_check(policy: Object, served: Mapping[Resource, str]) -> list[GroupVersionKind]:
    """The kinds, sorted, by the names of what is ``served``."""
    kinds: set[GroupVersionKind] = set()
    for group, version, plural in resources_of(policy):
        if len(kinds) < MAX_TYPES and (kind := served.get((group, version, plural))):
            kinds.add(GroupVersionKind(group, version, kind))
    return sorted(kinds, key=lambda gvk: (gvk.group, gvk.version, gvk.kind))


def param_kind(policy: Object) -> GroupVersionKind | None:
    kind = policy["spec"].get("paramKind")
    if not kind:
        return None
    group, _, version = kind["apiVersion"].rpartition("/")
    return GroupVersionKind(group, version, kind["kind"])


def check(policy: Object, context: PolicyContext) -> Iterator[Object | None]:
    """The expression warnings; None between expressions, as a place to let others have their turn."""
    checkers = [(gvk, _environment(policy, context, schema)) for gvk, schema in context.kinds]
    for index, validation in enumerate(policy["spec"].get("validations") or ()):
        for field in ("expression", "messageExpression"):
            if text := validation.get(field):
                yield _warning(f"spec.validations[{index}].{field}", text, checkers)
            yield None


def _warning(place: str, text: str, checkers: Iterable[tuple[GroupVersionKind, Environment]]) -> Object | None:
    message = []
    for gvk, environment in checkers:
        try:
            environment.compile(text)
        except CompileError as error:
            message.append(f"{gvk.group}/{gvk.version}, Kind={gvk.kind}: {error}\n")
    return {"fieldRef": place, "warning": "\n".join(message)} if message else None


def _environment(policy: Object, context: PolicyContext, object_type: DeclType) -> Environment:
    """What expressions see that are about objects of one type, the variables of the policy included."""
    known = {"object": object_type.type, "oldObject": object_type.type}
    roots = [object_type]
    if context.params is not None:
        known["params"] = context.params.type
        roots.append(context.params)
    environment = environments.admission(has_params=context.has_params, has_authorizer=True, patches=False).extend(
        known, tuple(roots)
    )
    variables: dict[str, DeclType] = {}
    composed = environments.with_variables(environment, variables)
    for variable in policy["spec"].get("variables") or ():
        try:
            type = environments.variable_type(composed.compile(variable["expression"]).type)
        except CompileError:
            type = types.DYN
        variables[variable["name"]] = DeclType("variable", type)
    return composed if variables else environment
