"""Conditions in a pod's status, with the fields that a condition always has."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def set_pod_condition(status: Object, condition: Object, now: str) -> None:
    """Add a condition, or replace the one of its type; the time of transition changes with the status only."""
    conditions: list[Object] = status.setdefault("conditions", [])
    full = {"lastProbeTime": None, "lastTransitionTime": now, **condition}
    for index, found in enumerate(conditions):
        if found.get("type") == condition["type"]:
            if found.get("status") == condition["status"]:
                full["lastTransitionTime"] = found.get("lastTransitionTime")
            conditions[index] = _in_order(full)
            return
    conditions.append(_in_order(full))


def find_pod_condition(pod: Object, type: str) -> Object | None:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == type), None)


def is_ready(pod: Object) -> bool:
    condition = find_pod_condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


_ORDER = ("type", "status", "lastProbeTime", "lastTransitionTime", "reason", "message")


def _in_order(condition: Object) -> Object:
    return {name: condition[name] for name in _ORDER if name in condition}
