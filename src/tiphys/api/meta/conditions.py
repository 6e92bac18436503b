"""Conditions in an object's status, by type.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#condition-v1-meta and the API conventions.
"""

from __future__ import annotations

from typing import Any

Condition = dict[str, Any]


def find_condition(conditions: list[Condition] | None, type: str) -> Condition | None:
    return next((c for c in conditions or () if c.get("type") == type), None)


def is_condition(conditions: list[Condition] | None, type: str, status: str = "True") -> bool:
    found = find_condition(conditions, type)
    return found is not None and found.get("status") == status


def set_condition(conditions: list[Condition], new: Condition, now: str) -> bool:
    """Set or add ``new`` in place; the transition time moves only where the status does. Whether anything changed."""
    old = find_condition(conditions, new["type"])
    if old is None:
        conditions.append({"lastTransitionTime": now, **new})
        return True
    changed = False
    if old.get("status") != new.get("status"):
        old["status"] = new.get("status")
        old["lastTransitionTime"] = new.get("lastTransitionTime", now)
        changed = True
    for key, value in new.items():
        if key not in ("type", "status", "lastTransitionTime") and old.get(key) != value:
            old[key] = value
            changed = True
    return changed


def remove_condition(conditions: list[Condition], type: str) -> bool:
    """Remove in place; whether it was there."""
    kept = [c for c in conditions if c.get("type") != type]
    changed = len(kept) != len(conditions)
    conditions[:] = kept
    return changed
