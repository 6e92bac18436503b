"""Conditions in an object's status, by type.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#condition-v1-meta and the API conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Condition = dict[str, Any]


def find_condition(conditions: Sequence[Condition] | None, type: str) -> Condition | None:
    return next((c for c in conditions or () if c.get("type") == type), None)


def condition_of(obj: Condition, type: str) -> Condition | None:
    """The condition of that type in an object's status."""
    return find_condition((obj.get("status") or {}).get("conditions"), type)


def is_condition(conditions: Sequence[Condition] | None, type: str, status: str = "True") -> bool:
    condition = find_condition(conditions, type)
    return condition is not None and condition.get("status") == status


def transition_time(old: Condition | None, status: str, now: str) -> str:
    """Since when a condition has the status that it gets: what the old one says if it has it already, else now."""
    if old is None or old.get("status") != status:
        return now
    return old.get("lastTransitionTime") or now


def set_condition(conditions: list[Condition], new: Condition, now: str) -> bool:
    """Set or add a ``metav1.Condition`` in place; whether anything changed.

    The transition time moves only if the status does. What ``new`` does not say is not kept.
    """
    old = find_condition(conditions, new["type"])
    if old is None:
        conditions.append({**new, "lastTransitionTime": new.get("lastTransitionTime") or now})
        return True
    changed = False
    if old.get("status") != new.get("status"):
        old["status"] = new.get("status")
        old["lastTransitionTime"] = new.get("lastTransitionTime") or now
        changed = True
    for key, empty in (("reason", ""), ("message", ""), ("observedGeneration", 0)):
        if (old.get(key) or empty) != (new.get(key) or empty):
            old[key] = new.get(key) or empty
            changed = True
    if not old.get("observedGeneration"):
        old.pop("observedGeneration", None)
    return changed
