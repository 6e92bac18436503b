"""Validation of the authorization.k8s.io group, v1: the access reviews.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#subjectaccessreview-v1-authorization-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    selector_operator,
)
from tiphys.validation.shared.objectmeta import meta_of

_BOTH = "cannot be specified in combination with resourceAttributes"
_NEITHER = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def validate_access_review(obj: Object) -> Errors:
    errs: Errors = []
    _spec(errs, obj.get("spec") or {}, with_subject=True)
    _no_metadata(errs, obj, "must be empty")
    return errs


def validate_self_access_review(obj: Object) -> Errors:
    errs: Errors = []
    _spec(errs, obj.get("spec") or {}, with_subject=False)
    _no_metadata(errs, obj, "must be empty")
    return errs


def validate_local_access_review(obj: Object) -> Errors:
    errs: Errors = []
    spec = obj.get("spec") or {}
    _spec(errs, spec, with_subject=True)
    _no_metadata(errs, obj, "must be empty except for namespace", "namespace")
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and (resource.get("namespace") or "") != (meta_of(obj).get("namespace") or ""):
        at = "spec.resourceAttributes.namespace"
        errs.append(field.invalid(at, resource.get("namespace") or "", "must match metadata.namespace"))
    if other is not None:
        errs.append(field.invalid("spec.nonResourceAttributes", _shown(other), "disallowed on this kind of request"))
    return errs


def _shown(attributes: Object | None) -> dict[str, Any] | None:
    if attributes is None:
        return None
    return {"Path": attributes.get("path") or "", "Verb": attributes.get("verb") or ""}


def _no_metadata(errs: Errors, obj: Object, text: str, *allowed: str) -> None:
    meta = meta_of(obj)
    if any(value for key, value in meta.items() if key not in ("managedFields", *allowed)):
        errs.append(field.invalid("metadata", {key: value for key, value in meta.items() if value}, text))


def _spec(errs: Errors, spec: Object, *, with_subject: bool) -> None:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        errs.append(field.invalid("spec.nonResourceAttributes", _shown(other), _BOTH))
    if resource is None and other is None:
        errs.append(field.invalid("spec.resourceAttributes", None, _NEITHER))
    if with_subject and not spec.get("user") and not spec.get("groups"):
        errs.append(field.invalid("spec.user", "", "at least one of user or group must be specified"))
    for key in ("fieldSelector", "labelSelector"):
        selector = (resource or {}).get(key)
        if selector is not None:
            _selector(errs, selector, f"spec.resourceAttributes.{key}", of_labels=key == "labelSelector")


def _selector(errs: Errors, selector: Object, path: str, *, of_labels: bool) -> None:
    raw, requirements = selector.get("rawSelector"), selector.get("requirements") or []
    if raw and requirements:
        text = "may not specified at the same time as requirements"
        errs.append(field.invalid(f"{path}.rawSelector", raw, text))
    if not raw and not requirements:
        text = f"when {path} is specified, requirements or rawSelector is required"
        errs.append(field.required(f"{path}.requirements", text))
    for i, requirement in enumerate(requirements):
        at, key = f"{path}.requirements[{i}]", requirement.get("key") or ""
        values = requirement.get("values") or ()
        if not of_labels and not key:
            errs.append(field.required(f"{at}.key", "must be specified"))
        selector_operator(errs, requirement.get("operator") or "", values, at, allow_unknown=True)
        if of_labels:
            invalid_all(errs, f"{at}.key", key, names.qualified_name(key))
            for j, value in enumerate(values):
                invalid_all(errs, f"{at}.values[{j}]", value, names.label_value(value))
