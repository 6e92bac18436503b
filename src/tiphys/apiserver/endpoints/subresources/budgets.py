"""Disruption budgets as an eviction sees them: whether one is spent, and what it says if it is not.

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/ and the API reference of PodDisruptionBudget.
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.meta.conditions import find_condition, set_condition
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.pods.conditions import is_ready

_ALLOWED = "DisruptionAllowed"
_MAX_REMEMBERED = 2000
_RETRY_AFTER = 10


def protects(budget: Object, pod: Object) -> bool:
    """Whether the pod counts; one that is not ready does not if the budget says so, or has enough without it."""
    if is_ready(pod):
        return True
    if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return False
    status = budget.get("status") or {}
    return not status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0


def spend(budget: Object, pod: str, now: str) -> Object:
    """The budget with one disruption less, and the pod remembered in it. Raises 403 and 429."""
    meta, status = budget["metadata"], budget.get("status") or {}
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise being_processed(meta["name"])
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise errors.forbidden("policy", "poddisruptionbudget", meta["name"], "pdb disruptions allowed is negative")
    if len(disrupted) > _MAX_REMEMBERED:
        reason = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise errors.forbidden("policy", "poddisruptionbudget", meta["name"], reason)
    if allowed == 0:
        raise _too_many(_why_not(meta["name"], status), 0)
    spent: Object = copy(budget)
    left = spent["status"]
    left["disruptionsAllowed"] = allowed - 1
    left["disruptedPods"] = {**disrupted, pod: now}
    if left["disruptionsAllowed"] == 0:
        condition = {"type": _ALLOWED, "status": "False", "reason": "InsufficientPods", "message": ""}
        if status.get("observedGeneration"):
            condition["observedGeneration"] = status["observedGeneration"]
        left["conditions"] = left.get("conditions") or []
        set_condition(left["conditions"], condition, now)
    return spent


def _why_not(name: str, status: Object) -> str:
    condition = find_condition(status.get("conditions"), _ALLOWED) or {}
    message = (condition.get("message") or "") if condition.get("status") == "False" else ""
    reason = condition.get("reason") or ""
    healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if message and reason == "SyncFailed":
        # The counts are not to be trusted then.
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    refusal = f"The disruption budget {name} does not allow evicting pods currently"
    return f"{refusal} ({reason}): {message}" if message else refusal


def being_processed(name: str) -> errors.StatusError:
    return _too_many(f"The disruption budget {name} is still being processed by the server.", _RETRY_AFTER)


def _too_many(reason: str, retry_after: int) -> errors.StatusError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    error = errors.too_many_requests(message, retry_after)
    error.status["details"] = {
        **(error.status.get("details") or {}),
        "causes": [errors.cause("DisruptionBudget", reason)],
    }
    return error
