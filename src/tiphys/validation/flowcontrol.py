"""Validation of the flowcontrol.apiserver.k8s.io group, v1.

Two schemas and two levels always exist, ``exempt`` and ``catch-all``; they are what they are.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#flowschema-v1-flowcontrol-apiserver-k8s-io
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    equal,
    invalid_all,
    name_is_label,
    name_is_subdomain,
    one_of,
)
from tiphys.validation.shared.objectmeta import validate_meta

MAX_PRECEDENCE = 10000
MAX_QUEUES = 10**7
MAX_HASH_BITS = 60
PRESERVE_ZERO = "flowcontrol.k8s.io/preserve-zero-concurrency-shares"
_METHODS = ("ByNamespace", "ByUser")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_KINDS = ("Group", "ServiceAccount", "User")
_EVERYTHING: Object = {
    "resourceRules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}


def _groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


_MANDATORY_SCHEMAS: dict[str, Object] = {
    "exempt": {
        "priorityLevelConfiguration": {"name": "exempt"},
        "matchingPrecedence": 1,
        "rules": [{"subjects": _groups("system:masters"), **_EVERYTHING}],
    },
    "catch-all": {
        "priorityLevelConfiguration": {"name": "catch-all"},
        "matchingPrecedence": MAX_PRECEDENCE,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": _groups("system:unauthenticated", "system:authenticated"), **_EVERYTHING}],
    },
}
_CATCH_ALL_LEVEL: Object = {
    "type": "Limited",
    "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}},
}


def validate_flow_schema(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    name, spec = (obj.get("metadata") or {}).get("name") or "", obj.get("spec") or {}
    _schema_spec(errs, name, spec)
    fixed = _MANDATORY_SCHEMAS.get(name)
    if fixed is not None and not equal(spec, fixed):
        errs.append(field.invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    _status(errs, obj)
    return errs


def validate_flow_schema_update(new: Object, old: Object) -> Errors:
    return validate_flow_schema(new)


def _schema_spec(errs: Errors, name: str, spec: Object) -> None:
    precedence, at = spec.get("matchingPrecedence") or 0, "spec.matchingPrecedence"
    if precedence <= 0:
        errs.append(field.invalid(at, precedence, "must be a positive value"))
    if precedence > MAX_PRECEDENCE:
        errs.append(field.invalid(at, precedence, f"must not be greater than {MAX_PRECEDENCE}"))
    if precedence == 1 and name != "exempt":
        text = "only the schema named 'exempt' may have matchingPrecedence 1"
        errs.append(field.invalid(at, precedence, text))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in _METHODS:
        shown = {"Type": method.get("type") or ""}
        errs.append(field.not_supported("spec.distinguisherMethod.type", shown, _METHODS))
    level, at = (spec.get("priorityLevelConfiguration") or {}).get("name"), "spec.priorityLevelConfiguration.name"
    if level:
        invalid_all(errs, at, level, name_is_subdomain(level))
    else:
        errs.append(field.required(at, "must reference a priority level"))
    for i, rule in enumerate(spec.get("rules") or ()):
        _rule(errs, rule, f"spec.rules[{i}]")


def _rule(errs: Errors, rule: Object, path: str) -> None:
    subjects = rule.get("subjects") or []
    for i, subject in enumerate(subjects):
        _subject(errs, subject, f"{path}.subjects[{i}]")
    if not subjects:
        errs.append(field.required(f"{path}.subjects", "subjects must contain at least one value"))
    resources, others = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resources and not others:
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        errs.append(field.required(path, text))
    for i, entry in enumerate(resources):
        _resource_rule(errs, entry, f"{path}.resourceRules[{i}]")
    for i, entry in enumerate(others):
        _non_resource_rule(errs, entry, f"{path}.nonResourceRules[{i}]")


_SUBJECTS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}


def _subject(errs: Errors, subject: Object, path: str) -> None:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        errs.append(field.not_supported(f"{path}.kind", kind, _KINDS))
        return
    key = _SUBJECTS[kind]
    details, at = subject.get(key), f"{path}.{key}"
    if details is None:
        errs.append(field.required(at, f"{key} is required when subject kind is '{kind}'"))
    elif kind == "ServiceAccount":
        _service_account(errs, details, at)
    elif not details.get("name"):
        errs.append(field.required(f"{at}.name"))
    for other, other_key in _SUBJECTS.items():
        if other != kind and subject.get(other_key) is not None:
            text = f"{other_key} is forbidden when subject kind is not '{other}'"
            errs.append(field.forbidden(f"{path}.{other_key}", text))


def _service_account(errs: Errors, subject: Object, path: str) -> None:
    name, namespace = subject.get("name"), subject.get("namespace")
    if not name:
        errs.append(field.required(f"{path}.name"))
    elif name != "*":
        invalid_all(errs, f"{path}.name", name, name_is_subdomain(name))
    if namespace:
        invalid_all(errs, f"{path}.namespace", namespace, name_is_label(namespace))
    else:
        errs.append(field.required(f"{path}.namespace", "must specify namespace for service account"))


def _verbs(errs: Errors, verbs: Sequence[str], path: str) -> None:
    if not verbs:
        errs.append(field.required(path, "verbs must contain at least one value"))
    elif "*" in verbs:
        _alone(errs, verbs, path, "verbs")
    elif not set(verbs) <= set(_VERBS):
        errs.append(field.not_supported(path, verbs, _VERBS))


def _alone(errs: Errors, values: Sequence[str], path: str, what: str) -> None:
    if "*" in values and len(values) > 1:
        errs.append(field.invalid(path, values, f"if '*' is present, must not specify other {what}"))


def _resource_rule(errs: Errors, rule: Object, path: str) -> None:
    _verbs(errs, rule.get("verbs") or [], f"{path}.verbs")
    groups, resources = rule.get("apiGroups") or [], rule.get("resources") or []
    if not groups:
        errs.append(field.required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    _alone(errs, groups, f"{path}.apiGroups", "api groups")
    if not resources:
        errs.append(field.required(f"{path}.resources", "resource rules must supply at least one resource"))
    _alone(errs, resources, f"{path}.resources", "resources")
    namespaces, at = rule.get("namespaces") or [], f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errs.append(field.required(at, text))
    elif "*" in namespaces:
        _alone(errs, namespaces, at, "namespaces")
    else:
        for i, namespace in enumerate(namespaces):
            for text in name_is_label(namespace):
                message = f"each member of this list must be '*' or a DNS-1123 label; {text}"
                errs.append(field.invalid(f"{at}[{i}]", namespace, message))


def _non_resource_rule(errs: Errors, rule: Object, path: str) -> None:
    _verbs(errs, rule.get("verbs") or [], f"{path}.verbs")
    urls, at = rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs"
    if not urls:
        errs.append(field.required(at, "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        _alone(errs, urls, at, "non-resource URLs")
    else:
        for i, url in enumerate(urls):
            if problem := _url_problem(url):
                errs.append(field.invalid(f"{at}[{i}]", url, problem))


def _url_problem(url: str) -> str:
    if not url:
        return "must not be empty"
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    if stars > 1 or (stars == 1 and not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def _status(errs: Errors, obj: Object) -> None:
    seen: set[str] = set()
    for i, condition in enumerate((obj.get("status") or {}).get("conditions") or ()):
        at, kind = f"status.conditions[{i}].type", condition.get("type") or ""
        if kind in seen:
            errs.append(field.duplicate(at, kind))
        seen.add(kind)
        if not kind:
            errs.append(field.required(at))


def validate_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    _status(errs, new)
    return errs


def validate_priority_level(obj: Object) -> Errors:
    """The errors of a PriorityLevelConfiguration; ``exempt`` and ``catch-all`` are fixed."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    meta, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    name = meta.get("name") or ""
    if PRESERVE_ZERO in (meta.get("annotations") or {}):
        errs.append(field.forbidden("metadata.annotations", f"annotation '{PRESERVE_ZERO}' is forbidden"))
    _level_spec(errs, name, spec)
    if name == "exempt" and (spec.get("type") != "Exempt" or spec.get("limited") is not None):
        text = f"spec of '{name}' except the 'spec.exempt' field must equal the fixed value"
        errs.append(field.invalid("spec", spec, text))
    if name == "catch-all" and not equal(spec, _CATCH_ALL_LEVEL):
        errs.append(field.invalid("spec", spec, f"spec of '{name}' must equal the fixed value"))
    _status(errs, obj)
    return errs


def validate_priority_level_update(new: Object, old: Object) -> Errors:
    return validate_priority_level(new)


def _level_spec(errs: Errors, name: str, spec: Object) -> None:
    kind, exempt, limited = spec.get("type") or "", spec.get("exempt"), spec.get("limited")
    if (name == "exempt") != (kind == "Exempt"):
        text = "must be 'Exempt' if and only if `name` is 'exempt'"
        errs.append(field.invalid("spec.type", kind, text))
    if kind == "Exempt":
        if limited is not None:
            errs.append(field.forbidden("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            _shares(errs, exempt, "spec.exempt")
            _lendable(errs, exempt, "spec.exempt")
    elif kind == "Limited":
        if exempt is not None:
            errs.append(field.forbidden("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errs.append(field.required("spec.limited", "must not be empty when type is Limited"))
        else:
            _limited(errs, limited, "spec.limited")
    else:
        errs.append(field.not_supported("spec.type", kind, ("Exempt", "Limited")))


def _shares(errs: Errors, level: Object, path: str) -> None:
    shares = level.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        errs.append(field.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))


def _lendable(errs: Errors, level: Object, path: str) -> None:
    percent = level.get("lendablePercent")
    if percent is not None and not 0 <= percent <= 100:
        errs.append(field.invalid(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive"))


def _limited(errs: Errors, level: Object, path: str) -> None:
    _shares(errs, level, path)
    response, at = level.get("limitResponse") or {}, f"{path}.limitResponse"
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            text = "must be nil if limited.limitResponse.type is not Limited"
            errs.append(field.forbidden(f"{at}.queuing", text))
    elif kind == "Queue":
        if queuing is None:
            text = "must not be empty if limited.limitResponse.type is Limited"
            errs.append(field.required(f"{at}.queuing", text))
        else:
            _queuing(errs, queuing, f"{at}.queuing")
    else:
        one_of(errs, kind, f"{at}.type", ("Queue", "Reject"))
    _lendable(errs, level, path)
    limit = level.get("borrowingLimitPercent")
    if limit is not None and limit < 0:
        text = "if specified, must be a non-negative integer"
        errs.append(field.invalid(f"{path}.borrowingLimitPercent", limit, text))


def _queuing(errs: Errors, queuing: Object, path: str) -> None:
    length, queues, hand = (queuing.get(key) or 0 for key in ("queueLengthLimit", "queues", "handSize"))
    if length <= 0:
        errs.append(field.invalid(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errs.append(field.invalid(f"{path}.queues", queues, "must be positive"))
    elif queues > MAX_QUEUES:
        errs.append(field.invalid(f"{path}.queues", queues, f"must not be greater than {MAX_QUEUES}"))
    if hand <= 0:
        errs.append(field.invalid(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        errs.append(field.invalid(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > MAX_HASH_BITS:
        text = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        )
        errs.append(field.invalid(f"{path}.handSize", hand, text))
