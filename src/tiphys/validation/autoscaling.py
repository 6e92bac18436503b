"""Validation of the autoscaling group: HorizontalPodAutoscaler v1 and v2, and Scale.

Autoscalers are checked in the form of v2, which upstream keeps internally.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#horizontalpodautoscaler-v2-autoscaling
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.conversion.autoscaling import v1_to_v2
from tiphys.api.meta import names
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.validation.pods.resources import container_resource_name
from tiphys.validation.shared.common import (
    Errors,
    invalid_all,
    label,
    non_negative,
    path_segment,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

_MAX_PERIOD = 1800
_MAX_WINDOW = 3600
_METRICS = ("ContainerResource", "External", "Object", "Pods", "Resource")
_FIELDS = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def validate_autoscaler(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _spec(errs, obj.get("spec") or {}, None)
    return errs


def validate_autoscaler_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    _spec(errs, new.get("spec") or {}, old.get("spec") or {})
    return errs


def validate_autoscaler_v1(obj: Object) -> Errors:
    return validate_autoscaler(v1_to_v2(obj))


def validate_autoscaler_v1_update(new: Object, old: Object) -> Errors:
    return validate_autoscaler_update(v1_to_v2(new), v1_to_v2(old))


def validate_autoscaler_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    status = new.get("status") or {}
    for key in ("currentReplicas", "desiredReplicas"):
        non_negative(errs, status.get(key), f"status.{key}")
    return errs


def _spec(errs: Errors, spec: Object, old: Object | None) -> None:
    low, high = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    bound = 0 if old is not None and old.get("minReplicas") == 0 else 1
    if low is not None and low < bound:
        errs.append(field.invalid("spec.minReplicas", low, f"must be greater than or equal to {bound}"))
    if high == 0:
        errs.append(field.required("spec.maxReplicas", "must be set and greater than 0"))
    elif high < 0:
        errs.append(field.invalid("spec.maxReplicas", high, "must be greater than or equal to 1"))
    if low is not None and high < low:
        text = "must be greater than or equal to `minReplicas`"
        errs.append(field.invalid("spec.maxReplicas", high, text))
    target, before = spec.get("scaleTargetRef") or {}, (old or {}).get("scaleTargetRef") or {}
    same = old is not None and all((target.get(k) or "") == (before.get(k) or "") for k in ("apiVersion", "kind"))
    core = target.get("kind") == "ReplicationController"
    _reference(errs, target, "spec.scaleTargetRef", any_version=same, allow_core=core)
    _metrics(errs, spec, old)
    behavior = spec.get("behavior") or {}
    for key in ("scaleUp", "scaleDown"):
        if behavior.get(key) is not None:
            _scaling_rules(errs, behavior[key], f"spec.behavior.{key}")


def _reference(errs: Errors, ref: Object, path: str, *, any_version: bool, allow_core: bool) -> None:
    path_segment(errs, ref.get("kind"), f"{path}.kind")
    path_segment(errs, ref.get("name"), f"{path}.name")
    version = ref.get("apiVersion") or ""
    if not any_version and (problem := _version_problem(version, allow_core=allow_core)):
        errs.append(field.invalid(f"{path}.apiVersion", version, problem))


def _version_problem(version: str, *, allow_core: bool) -> str:
    if version.count("/") > 1:
        return f"unexpected GroupVersion string: {version}"
    group = version.partition("/")[0] if "/" in version else ""
    return "" if group or allow_core else "apiVersion must specify API group"


def _metrics(errs: Errors, spec: Object, old: Object | None) -> None:
    metrics = spec.get("metrics") or []
    waived = any(
        _version_problem(
            ((m.get("object") or {}).get("describedObject") or {}).get("apiVersion") or "", allow_core=True
        )
        for m in (old or {}).get("metrics") or ()
        if m.get("type") == "Object" and m.get("object") is not None
    )
    for i, metric in enumerate(metrics):
        _metric(errs, metric, f"spec.metrics[{i}]", any_version=waived)
    if spec.get("minReplicas") == 0 and not any(m.get("type") in ("Object", "External") for m in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        errs.append(field.forbidden("spec.metrics", text))


def _metric(errs: Errors, metric: Object, path: str, *, any_version: bool) -> None:
    kind = metric.get("type") or ""
    if not kind:
        errs.append(field.required(f"{path}.type", "must specify a metric source type"))
    if kind not in _METRICS:
        errs.append(field.not_supported(f"{path}.type", kind, _METRICS))
    present = [key for key in _FIELDS.values() if metric.get(key) is not None]
    if present:
        key = present[0]
        _source(errs, key, metric[key], f"{path}.{key}", any_version=any_version)
    expected = _FIELDS.get(kind, "")
    if kind not in _METRICS:
        errs.append(field.not_supported(f"{path}.type", kind, _METRICS))
    elif metric.get(expected) is None:
        text = "must populate information for the given metric source"
        errs.append(field.required(f"{path}.{expected}", text))
    if len(present) != 1:
        for key in present:
            if key != expected:
                errs.append(field.forbidden(f"{path}.{key}", "must populate the given metric source only"))


def _source(errs: Errors, kind: str, source: Object, path: str, *, any_version: bool) -> None:
    """Validate the source of one metric by its kind; appends to ``errs``."""
    if kind == "object":
        described = source.get("describedObject") or {}
        _reference(errs, described, f"{path}.describedObject", any_version=any_version, allow_core=True)
    if kind in ("object", "external", "pods"):
        _identifier(errs, source.get("metric") or {}, f"{path}.metric")
    else:
        _resource(errs, source, path, of_container=kind == "containerResource")
    target = source.get("target") or {}
    _target(errs, target, f"{path}.target")
    value, average = target.get("value"), target.get("averageValue")
    if kind == "object" and value is None and average is None:
        errs.append(field.required(f"{path}.target.averageValue", "must set either a target value or averageValue"))
    elif kind == "external":
        if value is None and average is None:
            text = "must set either a target value for metric or a per-pod target"
            errs.append(field.required(f"{path}.target.averageValue", text))
        if value is not None and average is not None:
            text = "may not set both a target value for metric and a per-pod target"
            errs.append(field.forbidden(f"{path}.target.value", text))
    elif kind == "pods" and average is None:
        errs.append(field.required(f"{path}.target.averageValue", "must specify a positive target averageValue"))
    elif kind in ("resource", "containerResource"):
        _utilization(errs, target, f"{path}.target")


def _resource(errs: Errors, source: Object, path: str, *, of_container: bool) -> None:
    name, container = source.get("name"), source.get("container")
    if not name:
        errs.append(field.required(f"{path}.name", "must specify a resource name"))
    elif of_container:
        container_resource_name(errs, name, f"{path}.name")
    if of_container and not container:
        errs.append(field.required(f"{path}.container", "must specify a container"))
    elif of_container and container:
        label(errs, container, f"{path}.container")


def _utilization(errs: Errors, target: Object, path: str) -> None:
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is None and average is None:
        text = "must set either a target raw value or a target utilization"
        errs.append(field.required(f"{path}.averageUtilization", text))
    if utilization is not None and average is not None:
        text = "may not set both a target raw value and a target utilization"
        errs.append(field.forbidden(f"{path}.averageValue", text))


def _identifier(errs: Errors, metric: Object, path: str) -> None:
    name = metric.get("name")
    if not name:
        errs.append(field.required(f"{path}.name", "must specify a metric name"))
    else:
        invalid_all(errs, f"{path}.name", name, names.path_segment_name(name))


def _target(errs: Errors, target: Object, path: str) -> None:
    kind = target.get("type") or ""
    if not kind:
        errs.append(field.required(f"{path}.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        errs.append(field.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for key in ("value", "averageValue"):
        amount = target.get(key)
        if amount is not None and Quantity(amount).nano <= 0:
            errs.append(field.invalid(f"{path}.{key}", str(Quantity(amount)), "must be positive"))
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        errs.append(field.invalid(f"{path}.averageUtilization", utilization, "must be greater than 0"))


def _scaling_rules(errs: Errors, rules: Object, path: str) -> None:
    window, policy = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    at = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        errs.append(field.invalid(at, window, "must be greater than or equal to zero"))
    if window is not None and window > _MAX_WINDOW:
        errs.append(field.invalid(at, window, f"must be less than or equal to {_MAX_WINDOW}"))
    if policy is not None and policy not in ("Disabled", "Max", "Min"):
        errs.append(field.not_supported(f"{path}.selectPolicy", policy, ("Disabled", "Max", "Min")))
    policies = rules.get("policies") or []
    if not policies:
        errs.append(field.required(f"{path}.policies", "must specify at least one Policy"))
    for i, entry in enumerate(policies):
        _scaling_policy(errs, entry, f"{path}.policies[{i}]")
    tolerance = rules.get("tolerance")
    if tolerance is not None and Quantity(tolerance).nano < 0:
        text = "must be greater than or equal to 0"
        errs.append(field.invalid(f"{path}.tolerance", str(Quantity(tolerance)), text))


def _scaling_policy(errs: Errors, policy: Object, path: str) -> None:
    kind, value, period = policy.get("type") or "", policy.get("value") or 0, policy.get("periodSeconds") or 0
    if kind not in ("Percent", "Pods"):
        errs.append(field.not_supported(f"{path}.type", kind, ("Percent", "Pods")))
    if value <= 0:
        errs.append(field.invalid(f"{path}.value", value, "must be greater than zero"))
    if period <= 0:
        errs.append(field.invalid(f"{path}.periodSeconds", period, "must be greater than zero"))
    if period > _MAX_PERIOD:
        errs.append(field.invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD}"))


def validate_scale(obj: Object) -> Errors:
    """The ``scale`` subresource of a workload."""
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    non_negative(errs, (obj.get("spec") or {}).get("replicas"), "spec.replicas")
    return errs
