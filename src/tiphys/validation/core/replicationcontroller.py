"""Validation of ReplicationController, PodTemplate and Binding.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#replicationcontroller-v1-core
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.pod import pod_template_spec
from tiphys.validation.pods.podoptions import TEMPLATE, PodOptions
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    non_negative,
    sorted_map,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_named, validate_meta_update

_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas")


def validate_controller(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta_named(errs, obj, namespaced=True, check=_name)
    _spec(errs, obj.get("spec") or {}, TEMPLATE)
    return errs


def validate_controller_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _spec(errs, new.get("spec") or {}, waivers((old.get("spec") or {}).get("template"), is_pod=False))
    return errs


def _name(errs: Errors, name: str, path: str) -> None:
    """A subdomain; the length is reported in bytes, as by rules that upstream declares with the type."""
    invalid_all(errs, path, name, names.long_name(name))


def _spec(errs: Errors, spec: Object, options: PodOptions) -> None:
    non_negative(errs, spec.get("minReadySeconds"), "spec.minReadySeconds")
    selector = spec.get("selector") or {}
    if not selector:
        errs.append(field.required("spec.selector"))
    if spec.get("replicas") is None:
        errs.append(field.required("spec.replicas"))
    else:
        non_negative(errs, spec["replicas"], "spec.replicas")
    template = spec.get("template")
    if template is None:
        errs.append(field.required("spec.template"))
        return
    labels = (template.get("metadata") or {}).get("labels")
    if selector and any((labels or {}).get(key) != value for key, value in selector.items()):
        text = "`selector` does not match template `labels`"
        errs.append(field.invalid("spec.template.metadata.labels", sorted_map(labels), text))
    pod_template_spec(errs, template, "spec.template", options)
    restarts_always(errs, template, "spec.template", "ReplicationController")


def restarts_always(errs: Errors, template: Object, path: str, kind: str) -> None:
    """A workload that replaces its pods wants them to run for ever."""
    spec = template.get("spec") or {}
    policy = spec.get("restartPolicy") or ""
    if policy != "Always":
        errs.append(field.not_supported(f"{path}.spec.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errs.append(field.forbidden(f"{path}.spec.activeDeadlineSeconds", text))


def validate_controller_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    replica_counts(errs, new.get("status") or {}, "status")
    return errs


def replica_counts(errs: Errors, status: Object, path: str) -> None:
    """No count is negative, and none is greater than one that contains it."""
    for key in (*_COUNTS, "observedGeneration"):
        non_negative(errs, status.get(key), f"{path}.{key}")
    total = status.get("replicas") or 0
    for key in _COUNTS[1:]:
        value = status.get(key) or 0
        if value > total:
            errs.append(field.invalid(f"{path}.{key}", value, "cannot be greater than status.replicas"))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        errs.append(field.invalid(f"{path}.availableReplicas", available, "cannot be greater than readyReplicas"))


def validate_pod_template(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    pod_template_spec(errs, obj.get("template") or {}, "template")
    return errs


def validate_pod_template_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    pod_template_spec(errs, new.get("template") or {}, "template", waivers(old.get("template"), is_pod=False))
    return errs


def validate_binding(obj: Object) -> Errors:
    """The ``binding`` subresource of a pod."""
    errs: Errors = []
    target = obj.get("target") or {}
    kind = target.get("kind")
    if kind and kind != "Node":
        errs.append(field.not_supported("target.kind", kind, ("Node", "<empty>")))
    if not target.get("name"):
        errs.append(field.required("target.name"))
    return errs
