"""Defaults of the autoscaling group: v1, v2.

In v1 conversion adds the default CPU target, which can see the annotations that carry the other metrics.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#horizontalpodautoscaler-v2-autoscaling
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_missing
from tiphys.api.object import Object


def horizontal_pod_autoscaler_v1(obj: Object) -> None:
    if_missing(child(obj, "spec"), minReplicas=1)


def horizontal_pod_autoscaler_v2(obj: Object) -> None:
    """Default the replicas, the metric (80 % CPU utilization) and the scaling policies of a v2 autoscaler; in place."""
    spec = child(obj, "spec")
    if_missing(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    behavior = spec.get("behavior")
    if behavior is not None:
        if_missing(
            child(behavior, "scaleUp"),
            stabilizationWindowSeconds=0,
            selectPolicy="Max",
            policies=[_policy("Pods", 4), _policy("Percent", 100)],
        )
        # How long scaling down waits is a setting of the controller if the object does not say.
        if_missing(child(behavior, "scaleDown"), selectPolicy="Max", policies=[_policy("Percent", 100)])


def _policy(kind: str, value: int) -> Object:
    return {"type": kind, "value": value, "periodSeconds": 15}
