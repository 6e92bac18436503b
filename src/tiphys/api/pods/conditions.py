"""Conditions in a pod's status.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions
"""

from __future__ import annotations

from tiphys.api.meta.conditions import condition_of, find_condition, transition_time
from tiphys.api.object import Object

READY = "Ready"
_ORDER = ("type", "status", "lastProbeTime", "lastTransitionTime", "reason", "message")


def is_ready(pod: Object) -> bool:
    condition = condition_of(pod, READY)
    return condition is not None and condition.get("status") == "True"


def set_pod_condition(status: Object, condition: Object, now: str) -> None:
    """Add a condition, or replace the one of its type; the time of transition changes with the status only."""
    conditions: list[Object] = status.setdefault("conditions", [])
    old = find_condition(conditions, condition["type"])
    full = {"lastProbeTime": None, **condition, "lastTransitionTime": transition_time(old, condition["status"], now)}
    new = {name: full[name] for name in _ORDER if name in full}
    if old is None:
        conditions.append(new)
    else:
        conditions[conditions.index(old)] = new
