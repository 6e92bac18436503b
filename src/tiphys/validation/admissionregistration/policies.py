"""Policies in the server itself, written in CEL: ValidatingAdmissionPolicy, MutatingAdmissionPolicy, their bindings.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.cel.expression import Expression, Scope, Use
from tiphys.validation.admissionregistration.matching import (
    FAILURE_POLICIES,
    REINVOCATION_POLICIES,
    Context,
    match_conditions,
    match_resources,
    mutating_operations,
)
from tiphys.validation.shared.common import (
    Errors,
    conditions,
    equal,
    invalid_all,
    label_selector,
    name_is_subdomain,
    one_of,
    qualified,
    with_repeats,
)
from tiphys.validation.shared.expressions import check
from tiphys.validation.shared.objectmeta import validate_meta

MAX_AUDIT_ANNOTATIONS = 20
MAX_AUDIT_EXPRESSION = 5 * 1024
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_WORDS = """
true false null in as break const continue else for function if import let loop package namespace return var void while
"""
_RESERVED = frozenset(_WORDS.split())


@dataclass(frozen=True, slots=True)
class _Policy:
    """The parts of a policy that its expressions depend on."""

    has_params: bool = False
    scope: Scope = member(default_factory=Scope)
    stored: Collection[str] = member(default_factory=frozenset)

    def expression(self, text: str, use: Use, *, authorizer: bool = True) -> Expression:
        stored = text in self.stored
        return Expression(text, use, self.has_params, authorizer, stored, self.scope)


def validate_validating_policy(obj: Object) -> Errors:
    return _validating_policy(obj, same_conditions=False, stored=frozenset())


def validate_validating_policy_update(new: Object, old: Object) -> Errors:
    return _validating_policy(new, same_conditions=_same_conditions(new, old), stored=_stored(old))


def validate_mutating_policy(obj: Object) -> Errors:
    return _mutating_policy(obj, same_conditions=False, stored=frozenset())


def validate_mutating_policy_update(new: Object, old: Object) -> Errors:
    return _mutating_policy(new, same_conditions=_same_conditions(new, old), stored=_stored(old))


def _same_conditions(new: Object, old: Object) -> bool:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return all(equal(after.get(key), before.get(key)) for key in ("paramKind", "matchConditions"))


def _stored(old: Object) -> frozenset[str]:
    texts: set[str] = set()
    _collect(old.get("spec") or {}, texts)
    return frozenset(texts)


def _collect(value: Any, texts: set[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _collect(item, texts)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str) and key.lower().endswith("expression"):
                texts.add(item)
            else:
                _collect(item, texts)


def _validating_policy(obj: Object, stored: frozenset[str], *, same_conditions: bool) -> Errors:
    """The errors of a ValidatingAdmissionPolicy; ``stored`` are expressions that may stay."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    spec = obj.get("spec") or {}
    _selection(errs, spec, same_conditions=same_conditions, stored=stored, mutating=False)
    policy = _variables(errs, spec, stored)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        text = "validations or auditAnnotations must contain at least one item"
        errs.append(field.required("spec.validations", text))
        errs.append(field.required("spec.auditAnnotations", text))
        return errs
    for i, validation in enumerate(validations):
        _validation(errs, validation, policy, f"spec.validations[{i}]")
    if len(annotations) > MAX_AUDIT_ANNOTATIONS:
        text = f"must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations"
        errs.append(field.invalid("spec.auditAnnotations", _annotations_shown(annotations), text))
    name, keys = (obj.get("metadata") or {}).get("name") or "", set[str]()
    for i, annotation in enumerate(annotations):
        at, key = f"spec.auditAnnotations[{i}]", annotation.get("key") or ""
        _audit_annotation(errs, annotation, name, policy, at)
        if key in keys:
            errs.append(field.duplicate(f"{at}.key", key))
        keys.add(key)
    return errs


def _annotations_shown(annotations: Sequence[Object]) -> list[Object]:
    return [{"Key": a.get("key") or "", "ValueExpression": a.get("valueExpression") or ""} for a in annotations]


def _selection(errs: Errors, spec: Object, stored: frozenset[str], *, same_conditions: bool, mutating: bool) -> None:
    if spec.get("failurePolicy") is None:
        errs.append(field.required("spec.failurePolicy"))
    else:
        one_of(errs, spec["failurePolicy"], "spec.failurePolicy", FAILURE_POLICIES)
    kind = spec.get("paramKind")
    if kind is not None:
        _param_kind(errs, kind, "spec.paramKind")
    match = spec.get("matchConstraints")
    if match is None:
        errs.append(field.required("spec.matchConstraints"))
    else:
        match_resources(errs, match, "spec.matchConstraints")
        if not match.get("resourceRules"):
            errs.append(field.required("spec.matchConstraints.resourceRules"))
        if mutating:
            mutating_operations(errs, match, "spec.matchConstraints")
    if not same_conditions:
        context = Context(kind is not None, stored)
        match_conditions(errs, spec.get("matchConditions"), context, "spec.matchConditions")


def _param_kind(errs: Errors, kind: Object, path: str) -> None:
    api_version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    if not api_version:
        errs.append(field.required(f"{path}.apiVersion"))
    elif api_version.count("/") > 1:
        text = f"unexpected GroupVersion string: {api_version}"
        errs.append(field.invalid(f"{path}.apiVersion", api_version, text))
    else:
        group, _, version = api_version.rpartition("/")
        if group and (problems := names.dns1123_subdomain(group)):
            errs.append(field.invalid(f"{path}.apiVersion", group, ",".join(problems)))
        if not version:
            errs.append(field.invalid(f"{path}.apiVersion", api_version, "version must be specified"))
        elif problems := names.dns1035_label(version):
            errs.append(field.invalid(f"{path}.apiVersion", version, ",".join(problems)))
    if not name:
        errs.append(field.required(f"{path}.kind"))
    elif problems := names.dns1035_label(name.lower()):
        text = f"may have mixed case, but should otherwise match: {','.join(problems)}"
        errs.append(field.invalid(f"{path}.kind", name, text))


def _variables(errs: Errors, spec: Object, stored: frozenset[str]) -> _Policy:
    policy = _Policy(spec.get("paramKind") is not None, stored=stored)
    for i, variable in enumerate(spec.get("variables") or ()):
        at, name = f"spec.variables[{i}]", variable.get("name") or ""
        text = variable.get("expression") or ""
        if not name.strip():
            errs.append(field.required(f"{at}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
            errs.append(field.invalid(f"{at}.name", name, "must be a valid CEL identifier"))
        if not text.strip():
            errs.append(field.required(f"{at}.expression", "expression is not specified"))
        else:
            check(errs, policy.expression(text, Use.VARIABLE), f"{at}.expression")
        policy.scope.declare(name, text)
    return policy


def _validation(errs: Errors, validation: Object, policy: _Policy, path: str) -> None:
    expression = validation.get("expression") or ""
    if not expression.strip():
        errs.append(field.required(f"{path}.expression", "expression is not specified"))
    else:
        check(errs, policy.expression(expression, Use.VALIDATION), f"{path}.expression")
    text = validation.get("messageExpression") or ""
    if text and not text.strip():
        errs.append(field.invalid(f"{path}.messageExpression", text, "must be non-empty if specified"))
    elif text:
        check(errs, policy.expression(text, Use.MESSAGE, authorizer=False), f"{path}.messageExpression")
    message = validation.get("message") or ""
    if message and not message.strip():
        errs.append(field.invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip() or "\r" in message.strip():
        errs.append(field.invalid(f"{path}.message", message, "must not contain line breaks"))
    if validation.get("reason") is not None:
        one_of(errs, validation["reason"], f"{path}.reason", _REASONS)


def _audit_annotation(errs: Errors, annotation: Object, name: str, policy: _Policy, path: str) -> None:
    key, text = annotation.get("key") or "", annotation.get("valueExpression") or ""
    if name:
        qualified(errs, f"{name}/{key}", f"{path}.key")
    else:
        errs.append(field.invalid(f"{path}.key", key, "requires metadata.name be non-empty"))
    trimmed = text.strip()
    if not trimmed:
        errs.append(field.required(f"{path}.valueExpression", "valueExpression is not specified"))
    elif names.byte_length(trimmed) > MAX_AUDIT_EXPRESSION:
        message = f"must not exceed {MAX_AUDIT_EXPRESSION} bytes in length"
        errs.append(field.required(f"{path}.valueExpression", message))
    else:
        check(errs, policy.expression(text, Use.AUDIT_ANNOTATION), f"{path}.valueExpression")


def _mutating_policy(obj: Object, stored: frozenset[str], *, same_conditions: bool) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    spec = obj.get("spec") or {}
    _selection(errs, spec, same_conditions=same_conditions, stored=stored, mutating=True)
    policy = _variables(errs, spec, stored)
    mutations = spec.get("mutations") or []
    if not mutations:
        errs.append(field.required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(mutations):
        _mutation(errs, mutation, policy, f"spec.mutations[{i}]")
    reinvocation = spec.get("reinvocationPolicy") or ""
    if not reinvocation:
        errs.append(field.required("spec.reinvocationPolicy"))
    else:
        one_of(errs, reinvocation, "spec.reinvocationPolicy", REINVOCATION_POLICIES)
    return errs


_PATCHES = {
    "JSONPatch": ("jsonPatch", "applyConfiguration", Use.JSON_PATCH),
    "ApplyConfiguration": ("applyConfiguration", "jsonPatch", Use.APPLY_CONFIGURATION),
}


def _mutation(errs: Errors, mutation: Object, policy: _Policy, path: str) -> None:
    kind = mutation.get("patchType") or ""
    if not kind:
        errs.append(field.required(f"{path}.patchType"))
        return
    if kind not in _PATCHES:
        errs.append(field.not_supported(f"{path}.patchType", kind, _PATCH_TYPES))
        return
    key, other, use = _PATCHES[kind]
    if mutation.get(key) is None:
        errs.append(field.required(f"{path}.{key}", f"must be specified when patchType is {kind}"))
    else:
        text = (mutation[key].get("expression") or "").strip()
        if not text:
            errs.append(field.required(f"{path}.{key}.expression"))
        else:
            check(errs, policy.expression(text, use), f"{path}.{key}.expression")
    if mutation.get(other) is not None:
        message = f"must not be specified when patchType is {kind}"
        errs.append(field.invalid(f"{path}.{other}", f"{{{other}}}", message))


def validate_policy_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    status = new.get("status") or {}
    warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or ()
    for i, warning in enumerate(warnings):
        at = f"status.typeChecking.expressionWarnings[{i}]"
        if not warning.get("warning"):
            errs.append(field.required(f"{at}.warning"))
        if not (warning.get("fieldRef") or "").strip():
            errs.append(field.required(f"{at}.fieldRef"))
    conditions(errs, status.get("conditions"), "status.conditions")
    return errs


def validate_validating_binding(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    spec = obj.get("spec") or {}
    _binding(errs, spec)
    _actions(errs, spec.get("validationActions") or [], "spec.validationActions")
    return errs


def validate_validating_binding_update(new: Object, old: Object) -> Errors:
    return validate_validating_binding(new)


def validate_mutating_binding(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, core=False)
    spec = obj.get("spec") or {}
    _binding(errs, spec)
    mutating_operations(errs, spec.get("matchResources"), "spec.matchResources")
    return errs


def validate_mutating_binding_update(new: Object, old: Object) -> Errors:
    return validate_mutating_binding(new)


def _binding(errs: Errors, spec: Object) -> None:
    name = spec.get("policyName")
    if not name:
        errs.append(field.required("spec.policyName"))
    else:
        invalid_all(errs, "spec.policyName", name, name_is_subdomain(name))
    if spec.get("paramRef") is not None:
        _param_ref(errs, spec["paramRef"], "spec.paramRef")
    match_resources(errs, spec.get("matchResources"), "spec.matchResources")


def _param_ref(errs: Errors, ref: Object, path: str) -> None:
    name, selector = ref.get("name"), ref.get("selector")
    both = "name and selector are mutually exclusive"
    if name:
        invalid_all(errs, f"{path}.name", name, names.path_segment_name(name))
        if selector is not None:
            errs.append(field.forbidden(f"{path}.name", both))
    if selector is not None:
        label_selector(errs, selector, f"{path}.selector")
        if name:
            errs.append(field.forbidden(f"{path}.selector", both))
    elif not name:
        errs.append(field.required(path, "one of name or selector must be specified"))
    action = ref.get("parameterNotFoundAction")
    if not action:
        errs.append(field.required(f"{path}.parameterNotFoundAction"))
    else:
        one_of(errs, action, f"{path}.parameterNotFoundAction", ("Deny", "Allow"))


def _actions(errs: Errors, actions: Sequence[str], path: str) -> None:
    for i, action, repeated in with_repeats(actions):
        one_of(errs, action, f"{path}[{i}]", _ACTIONS)
        if repeated:
            errs.append(field.duplicate(f"{path}[{i}]", action))
    if "Deny" in actions and "Warn" in actions:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        errs.append(field.invalid(path, actions, text))
    if not actions:
        errs.append(field.required(path, "at least one validation action is required"))
