"""HorizontalPodAutoscaler v1 and v2. What v1 has no fields for travels in annotations.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v1/ and -v2/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tiphys.api.codec.decoding import normalize
from tiphys.api.gotext import json_text
from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.schema import schema_of

METRICS = "autoscaling.alpha.kubernetes.io/metrics"
CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"
CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_ROUND_TRIP = (
    METRICS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
    CURRENT_METRICS,
    CONDITIONS,
)
DEFAULT_CPU_UTILIZATION = 80
_ALWAYS = ("scaleTargetRef", "minReplicas", "maxReplicas")
_STATUS = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")
_BEHAVIOR = {"ScaleUp": "scaleUp", "ScaleDown": "scaleDown"}
_RULES = {
    "StabilizationWindowSeconds": "stabilizationWindowSeconds",
    "SelectPolicy": "selectPolicy",
    "Policies": "policies",
    "Tolerance": "tolerance",
}
_POLICY = {"Type": "type", "Value": "value", "PeriodSeconds": "periodSeconds"}


def _pick(obj: Object, names: tuple[str, ...]) -> Object:
    return {name: obj[name] for name in names if obj.get(name) is not None}


def _without_annotations(meta: Object) -> Object:
    """The metadata without the annotations that carry what v1 cannot say; its annotations are a copy."""
    kept = dict(meta)
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key not in _ROUND_TRIP}
    kept.pop("annotations", None)
    if annotations:
        kept["annotations"] = annotations
    return kept


def _is_cpu_utilization(metric: Object) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return bool(
        metric.get("type") == "Resource"
        and resource.get("name") == "cpu"
        and target.get("averageUtilization") is not None
    )


# -- v2 to v1


def v2_to_v1(obj: Object) -> Object:
    """The v1 form of a v2 object; metrics, behavior and conditions that v1 cannot express become annotations."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    meta = _without_annotations(obj.get("metadata") or {})
    notes: Object = {}
    metrics = spec.get("metrics") or []
    others = [_metric_to_v1(metric, _SPEC_TO_V1) for metric in metrics if not _is_cpu_utilization(metric)]
    if others:
        notes[METRICS] = json_text(others)
    if current := status.get("currentMetrics"):
        notes[CURRENT_METRICS] = json_text([_metric_to_v1(metric, _STATUS_TO_V1) for metric in current])
    if spec.get("behavior") is not None:
        notes[BEHAVIOR] = json_text(_behavior_out(spec["behavior"]))
    if conditions := status.get("conditions"):
        notes[CONDITIONS] = json_text([_condition_out(condition) for condition in conditions])
    if notes:
        meta["annotations"] = {**meta.get("annotations", {}), **notes}
    new_spec = _pick(spec, _ALWAYS)
    cpu = next((metric for metric in metrics if _is_cpu_utilization(metric)), None)
    if cpu is not None:
        new_spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"]
    return {"metadata": meta, "spec": new_spec, "status": _status_to_v1(status)}


def _status_to_v1(status: Object) -> Object:
    converted = _pick(status, _STATUS)
    for metric in status.get("currentMetrics") or []:
        resource = metric.get("resource") or {}
        utilization = (resource.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and utilization is not None:
            converted["currentCPUUtilizationPercentage"] = utilization
    return converted


def _condition_out(condition: Object) -> Object:
    names = ("type", "status", "lastTransitionTime", "reason", "message")
    return {
        name: condition.get(name)
        for name in names
        if condition.get(name) or name in ("type", "status", "lastTransitionTime")
    }


def _metric_to_v1(metric: Object, conversions: Mapping[str, Callable[[Object], Object]]) -> Object:
    converted: Object = {"type": metric.get("type", "")}
    for name, conversion in conversions.items():
        if metric.get(name) is not None:
            converted[name] = {key: value for key, value in conversion(metric[name]).items() if value is not None}
    return converted


def _object_source_out(source: Object) -> Object:
    target = source.get("target") or {}
    return {
        "target": _reference(source.get("describedObject") or {}),
        "metricName": (source.get("metric") or {}).get("name", ""),
        "targetValue": target.get("value") or "0",
        "selector": (source.get("metric") or {}).get("selector"),
        "averageValue": target.get("averageValue"),
    }


def _pods_source_out(source: Object) -> Object:
    metric = source.get("metric") or {}
    return {
        "metricName": metric.get("name", ""),
        "targetAverageValue": (source.get("target") or {}).get("averageValue") or "0",
        "selector": metric.get("selector"),
    }


def _resource_source_out(source: Object) -> Object:
    target = source.get("target") or {}
    return {
        "name": source.get("name", ""),
        "targetAverageUtilization": target.get("averageUtilization"),
        "targetAverageValue": target.get("averageValue"),
        "container": source.get("container"),
    }


def _external_source_out(source: Object) -> Object:
    metric, target = source.get("metric") or {}, source.get("target") or {}
    return {
        "metricName": metric.get("name", ""),
        "metricSelector": metric.get("selector"),
        "targetValue": target.get("value"),
        "targetAverageValue": target.get("averageValue"),
    }


def _object_status_out(status: Object) -> Object:
    metric, current = status.get("metric") or {}, status.get("current") or {}
    return {
        "target": _reference(status.get("describedObject") or {}),
        "metricName": metric.get("name", ""),
        "currentValue": current.get("value") or "0",
        "selector": metric.get("selector"),
        "averageValue": current.get("averageValue"),
    }


def _pods_status_out(status: Object) -> Object:
    metric = status.get("metric") or {}
    return {
        "metricName": metric.get("name", ""),
        "currentAverageValue": (status.get("current") or {}).get("averageValue") or "0",
        "selector": metric.get("selector"),
    }


def _resource_status_out(status: Object) -> Object:
    current = status.get("current") or {}
    return {
        "name": status.get("name", ""),
        "currentAverageUtilization": current.get("averageUtilization"),
        "currentAverageValue": current.get("averageValue") or "0",
        "container": status.get("container"),
    }


def _external_status_out(status: Object) -> Object:
    metric, current = status.get("metric") or {}, status.get("current") or {}
    return {
        "metricName": metric.get("name", ""),
        "metricSelector": metric.get("selector"),
        "currentValue": current.get("value") or "0",
        "currentAverageValue": current.get("averageValue"),
    }


def _reference(reference: Object) -> Object:
    converted = {"kind": reference.get("kind", ""), "name": reference.get("name", "")}
    return {**converted, "apiVersion": reference["apiVersion"]} if reference.get("apiVersion") else converted


_SPEC_TO_V1 = {
    "object": _object_source_out,
    "pods": _pods_source_out,
    "resource": _resource_source_out,
    "containerResource": _resource_source_out,
    "external": _external_source_out,
}
_STATUS_TO_V1 = {
    "object": _object_status_out,
    "pods": _pods_status_out,
    "resource": _resource_status_out,
    "containerResource": _resource_status_out,
    "external": _external_status_out,
}


def _behavior_out(behavior: Object) -> Object:
    """The annotation holds upstream's internal type, whose fields have Go's names."""
    return {name: _rules_out(behavior.get(field)) for name, field in _BEHAVIOR.items()}


def _rules_out(rules: Object | None) -> Object | None:
    if rules is None:
        return None
    converted = {name: rules.get(field) for name, field in _RULES.items()}
    if converted["Policies"] is not None:
        converted["Policies"] = [{n: policy.get(f) for n, f in _POLICY.items()} for policy in converted["Policies"]]
    return converted


# -- v1 to v2


def v1_to_v2(obj: Object) -> Object:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    meta = obj.get("metadata") or {}
    notes = meta.get("annotations") or {}
    new_spec = _pick(spec, _ALWAYS)
    metrics = _from_note(notes.get(METRICS), "MetricSpec", lambda metric: _metric_to_v2(metric, _SPEC_TO_V2)) or []
    if spec.get("targetCPUUtilizationPercentage") is not None:
        metrics.append(_cpu_metric(spec["targetCPUUtilizationPercentage"]))
    new_spec["metrics"] = metrics or [_cpu_metric(DEFAULT_CPU_UTILIZATION)]
    behavior = _behavior_in(notes.get(BEHAVIOR))
    if behavior:
        new_spec["behavior"] = behavior
    return {"metadata": _without_annotations(meta), "spec": new_spec, "status": _status_to_v2(status, notes)}


def _cpu_metric(utilization: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": utilization}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _status_to_v2(status: Object, notes: Object) -> Object:
    converted = _pick(status, _STATUS)
    current = _from_note(
        notes.get(CURRENT_METRICS), "MetricStatus", lambda metric: _metric_to_v2(metric, _STATUS_TO_V2)
    )
    if current is not None:
        converted["currentMetrics"] = current
    elif status.get("currentCPUUtilizationPercentage") is not None:
        usage = {"averageUtilization": status["currentCPUUtilizationPercentage"]}
        converted["currentMetrics"] = [{"type": "Resource", "resource": {"name": "cpu", "current": usage}}]
    conditions = _from_note(notes.get(CONDITIONS), "HorizontalPodAutoscalerCondition", lambda condition: condition)
    if conditions is not None:
        converted["conditions"] = conditions
    return converted


def _from_note(text: str | None, definition: str, conversion: Callable[[Object], Object]) -> list[Object] | None:
    """The list in an annotation, converted; an annotation that holds no such list is passed over."""
    if text is None:
        return None
    schema = schema_of(f"io.k8s.api.autoscaling.v2.{definition}")
    try:
        return [normalize(conversion(item), schema) for item in orjson.loads(text)]
    except (ValueError, TypeError, AttributeError, KeyError):
        # Anybody may write the annotation; what does not fit counts as absent, as upstream does.
        return None


def _metric_to_v2(metric: Object, conversions: Mapping[str, Callable[[Object], Object]]) -> Object:
    converted: Object = {"type": metric.get("type", "")}
    for name, conversion in conversions.items():
        if isinstance(metric.get(name), dict):
            converted[name] = {key: value for key, value in conversion(metric[name]).items() if value is not None}
    return converted


def _identifier(name: Any, selector: Any) -> Object:
    return {"name": name or "", **({"selector": selector} if selector is not None else {})}


def _target(kind: str, **values: Any) -> Object:
    return {"type": kind, **{name: value for name, value in values.items() if value is not None}}


def _current(**values: Any) -> Object:
    return {name: value for name, value in values.items() if value is not None}


def _object_source_in(source: Object) -> Object:
    average, value = source.get("averageValue"), source.get("targetValue") or "0"
    if average is None:
        target = _target("Value", value=value)
    else:
        # v1 always shows a value; a zero beside an average was none.
        target = _target("AverageValue", value=value if Quantity(str(value)) else None, averageValue=average)
    return {
        "describedObject": _reference(source.get("target") or {}),
        "target": target,
        "metric": _identifier(source.get("metricName"), source.get("selector")),
    }


def _pods_source_in(source: Object) -> Object:
    return {
        "metric": _identifier(source.get("metricName"), source.get("selector")),
        "target": _target("AverageValue", averageValue=source.get("targetAverageValue") or "0"),
    }


def _resource_source_in(source: Object) -> Object:
    utilization, value = source.get("targetAverageUtilization"), source.get("targetAverageValue")
    kind = "AverageValue" if utilization is None else "Utilization"
    return {
        "name": source.get("name", ""),
        "target": _target(kind, averageValue=value, averageUtilization=utilization),
        "container": source.get("container"),
    }


def _external_source_in(source: Object) -> Object:
    value, average = source.get("targetValue"), source.get("targetAverageValue")
    return {
        "metric": _identifier(source.get("metricName"), source.get("metricSelector")),
        "target": _target("AverageValue" if value is None else "Value", value=value, averageValue=average),
    }


def _object_status_in(status: Object) -> Object:
    return {
        "metric": _identifier(status.get("metricName"), status.get("selector")),
        "current": _current(value=status.get("currentValue") or "0", averageValue=status.get("averageValue")),
        "describedObject": _reference(status.get("target") or {}),
    }


def _pods_status_in(status: Object) -> Object:
    return {
        "metric": _identifier(status.get("metricName"), status.get("selector")),
        "current": _current(averageValue=status.get("currentAverageValue") or "0"),
    }


def _resource_status_in(status: Object) -> Object:
    utilization, value = status.get("currentAverageUtilization"), status.get("currentAverageValue") or "0"
    return {
        "name": status.get("name", ""),
        "current": _current(averageValue=value, averageUtilization=utilization),
        "container": status.get("container"),
    }


def _external_status_in(status: Object) -> Object:
    value, average = status.get("currentValue") or "0", status.get("currentAverageValue")
    return {
        "metric": _identifier(status.get("metricName"), status.get("metricSelector")),
        "current": _current(value=value, averageValue=average),
    }


_SPEC_TO_V2 = {
    "object": _object_source_in,
    "pods": _pods_source_in,
    "resource": _resource_source_in,
    "containerResource": _resource_source_in,
    "external": _external_source_in,
}
_STATUS_TO_V2 = {
    "object": _object_status_in,
    "pods": _pods_status_in,
    "resource": _resource_status_in,
    "containerResource": _resource_status_in,
    "external": _external_status_in,
}


def _behavior_in(text: str | None) -> Object | None:
    if text is None:
        return None
    schema = schema_of("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior")
    try:
        behavior = orjson.loads(text)
        converted = {
            field: _rules_in(behavior[name]) for name, field in _BEHAVIOR.items() if behavior.get(name) is not None
        }
        return normalize(converted, schema) or None
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _rules_in(rules: Any) -> Object:
    converted = {field: rules[name] for name, field in _RULES.items() if rules.get(name) is not None}
    if "policies" in converted:
        converted["policies"] = [{f: policy.get(n) for n, f in _POLICY.items()} for policy in converted["policies"]]
    return converted
