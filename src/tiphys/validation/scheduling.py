"""Validation of the scheduling.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#priorityclass-v1-scheduling-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    immutable,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_HIGHEST = 1_000_000_000
SYSTEM_CLASSES = {"system-node-critical": 2 * _HIGHEST + 1000, "system-cluster-critical": 2 * _HIGHEST}


def preemption_policy(errs: Errors, policy: str, path: str) -> None:
    if policy not in ("PreemptLowerPriority", "Never"):
        supported = ("PreemptLowerPriority", "Never")
        errs.append(field.not_supported(path, policy, supported) if policy else field.required(path))


def validate_priority_class(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=False)
    name, value = meta_of(obj).get("name") or "", obj.get("value") or 0
    if name.startswith("system-"):
        if problem := _system_problem(name, value, is_default=bool(obj.get("globalDefault"))):
            text = f"priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
            errs.append(field.forbidden("metadata.name", text))
    elif value > _HIGHEST:
        errs.append(field.forbidden("value", f"maximum allowed value of a user defined priority is {_HIGHEST}"))
    if obj.get("preemptionPolicy") is not None:
        preemption_policy(errs, obj["preemptionPolicy"], "preemptionPolicy")
    return errs


def _system_problem(name: str, value: int, *, is_default: bool) -> str:
    if name not in SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def validate_priority_class_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    if (new.get("value") or 0) != (old.get("value") or 0):
        errs.append(field.forbidden("value", "may not be changed in an update."))
    immutable(errs, new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")
    return errs
