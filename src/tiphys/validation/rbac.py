"""Validation of the rbac.authorization.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#clusterrole-v1-rbac-authorization-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label_selector,
    name_is_subdomain,
    path_segment,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

GROUP = "rbac.authorization.k8s.io"


def _name(name: str, *, prefix: bool) -> list[str]:
    """The same for a prefix: ``system:`` and the like are in use."""
    return names.path_segment_name(name)


def validate_role(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True, name_check=_name)
    _rules(errs, obj, namespaced=True)
    return errs


def validate_role_update(new: Object, old: Object) -> Errors:
    errs = validate_role(new)
    validate_meta_update(errs, new, old)
    return errs


def validate_cluster_role(obj: Object) -> Errors:
    errs: Errors = []
    _cluster_role(errs, obj, bad_values=False)
    return errs


def _cluster_role(errs: Errors, obj: Object, *, bad_values: bool) -> None:
    validate_meta(errs, obj, namespaced=False, name_check=_name)
    _rules(errs, obj, namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is None:
        return
    at, selectors = "aggregationRule.clusterRoleSelectors", aggregation.get("clusterRoleSelectors") or []
    if not selectors:
        text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errs.append(field.required(at, text))
    for i, selector in enumerate(selectors):
        before = len(errs)
        label_selector(errs, selector, f"{at}[{i}]", allow_bad_values=bad_values)
        if len(errs) > before:
            errs.append(field.invalid(f"{at}[{i}]", None, "invalid label selector."))


def validate_cluster_role_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    stored: Errors = []
    for selector in (old.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        label_selector(stored, selector, "")
    _cluster_role(errs, new, bad_values=bool(stored))
    validate_meta_update(errs, new, old)
    return errs


def _rules(errs: Errors, obj: Object, *, namespaced: bool) -> None:
    for i, rule in enumerate(obj.get("rules") or ()):
        _rule(errs, rule, namespaced=namespaced, path=f"rules[{i}]")


def _rule(errs: Errors, rule: Object, path: str, *, namespaced: bool) -> None:
    if not rule.get("verbs"):
        errs.append(field.required(f"{path}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs")
    if urls:
        at = f"{path}.nonResourceURLs"
        if namespaced:
            errs.append(field.invalid(at, urls, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            errs.append(field.invalid(at, urls, text))
        return
    if not rule.get("apiGroups"):
        errs.append(field.required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errs.append(field.required(f"{path}.resources", "resource rules must supply at least one resource"))


def validate_role_binding(obj: Object) -> Errors:
    errs: Errors = []
    _binding(errs, obj, namespaced=True)
    return errs


def validate_cluster_role_binding(obj: Object) -> Errors:
    errs: Errors = []
    _binding(errs, obj, namespaced=False)
    return errs


def _binding(errs: Errors, obj: Object, *, namespaced: bool) -> None:
    validate_meta(errs, obj, namespaced=namespaced, name_check=_name)
    ref = obj.get("roleRef") or {}
    group, kind = ref.get("apiGroup") or "", ref.get("kind") or ""
    if group != GROUP:
        errs.append(field.not_supported("roleRef.apiGroup", group, (GROUP,)))
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    if kind not in kinds:
        errs.append(field.not_supported("roleRef.kind", kind, kinds))
    path_segment(errs, ref.get("name"), "roleRef.name")
    for i, subject in enumerate(obj.get("subjects") or ()):
        _subject(errs, subject, namespaced=namespaced, path=f"subjects[{i}]")


def _subject(errs: Errors, subject: Object, path: str, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name"), subject.get("kind") or "", subject.get("apiGroup") or ""
    if not name:
        errs.append(field.required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            invalid_all(errs, f"{path}.name", name, name_is_subdomain(name))
        if group:
            errs.append(field.not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errs.append(field.required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            errs.append(field.not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        errs.append(field.not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))


def validate_role_binding_update(new: Object, old: Object) -> Errors:
    return _binding_update(new, old, namespaced=True)


def validate_cluster_role_binding_update(new: Object, old: Object) -> Errors:
    return _binding_update(new, old, namespaced=False)


def _binding_update(new: Object, old: Object, *, namespaced: bool) -> Errors:
    errs: Errors = []
    _binding(errs, new, namespaced=namespaced)
    validate_meta_update(errs, new, old)
    keys = ("apiGroup", "kind", "name")
    after = {key: (new.get("roleRef") or {}).get(key) or "" for key in keys}
    before = {key: (old.get("roleRef") or {}).get(key) or "" for key in keys}
    if after != before:
        shown = {"APIGroup": after["apiGroup"], "Kind": after["kind"], "Name": after["name"]}
        errs.append(field.invalid("roleRef", shown, "cannot change roleRef"))
    return errs
