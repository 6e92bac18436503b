"""Validation of the policy group, v1: PodDisruptionBudget and Eviction.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#poddisruptionbudget-v1-policy
"""

from __future__ import annotations

from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.options import validate_delete_options
from tiphys.validation.shared.common import (
    Errors,
    conditions,
    label_selector,
    non_negative,
)
from tiphys.validation.shared.workloads import at_most_all, int_or_percent

_EVICTION_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def validate_budget(obj: Object) -> Errors:
    errs: Errors = []
    _spec(errs, obj.get("spec") or {}, bad_values=False)
    return errs


def validate_budget_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    stored: Errors = []
    label_selector(stored, (old.get("spec") or {}).get("selector"), "")
    _spec(errs, new.get("spec") or {}, bad_values=bool(stored))
    return errs


def _spec(errs: Errors, spec: Object, *, bad_values: bool) -> None:
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        shown: dict[str, Any] = {
            "MinAvailable": least,
            "Selector": spec.get("selector"),
            "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        errs.append(field.invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for key, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            int_or_percent(errs, value, f"spec.{key}")
            at_most_all(errs, value, f"spec.{key}")
    label_selector(errs, spec.get("selector"), "spec.selector", allow_bad_values=bad_values)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _EVICTION_POLICIES:
        errs.append(field.not_supported("spec.unhealthyPodEvictionPolicy", policy, _EVICTION_POLICIES))


def validate_budget_status_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    status = new.get("status") or {}
    conditions(errs, status.get("conditions"), "status.conditions")
    for key in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        non_negative(errs, status.get(key), f"status.{key}")
    return errs


def validate_eviction(obj: Object) -> Errors:
    """The ``eviction`` subresource of a pod."""
    return validate_delete_options(obj.get("deleteOptions") or {})
