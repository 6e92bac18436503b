"""Validation of Namespace.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#namespace-v1-core
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    name_is_label,
)
from tiphys.validation.shared.objectmeta import (
    finalizer_name,
    kube_finalizer,
    meta_of,
    validate_meta,
    validate_meta_update,
)


def validate_namespace(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False, name_check=name_is_label)
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        _finalizer(errs, name, "spec.finalizers")
    return errs


def _finalizer(errs: Errors, name: str, path: str) -> None:
    finalizer_name(errs, name, path)
    kube_finalizer(errs, name, path)


def validate_namespace_update(new: Object, old: Object) -> Errors:
    errs = validate_namespace(new)
    validate_meta_update(errs, new, old)
    return errs


def validate_namespace_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    phase = (new.get("status") or {}).get("phase") or ""
    if not meta_of(new).get("deletionTimestamp"):
        if phase != "Active":
            text = "may only be 'Active' if `deletionTimestamp` is empty"
            errs.append(field.invalid("status.Phase", phase, text))
    elif phase != "Terminating":
        text = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        errs.append(field.invalid("status.Phase", phase, text))
    return errs


def validate_namespace_finalize(new: Object, old: Object) -> Errors:
    """The ``finalize`` subresource."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    for i, name in enumerate((new.get("spec") or {}).get("finalizers") or ()):
        _finalizer(errs, name, f"spec.finalizers[{i}]")
    return errs
