"""Validation of the coordination.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#lease-v1-coordination-k8s-io
"""

from __future__ import annotations

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.shared.common import (
    Errors,
    qualified,
)
from tiphys.validation.shared.objectmeta import validate_meta, validate_meta_update

_STRATEGY = "OldestEmulationVersion"


def validate_lease(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True, core=False)
    _spec(errs, obj.get("spec") or {})
    return errs


def validate_lease_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old, core=False)
    _spec(errs, new.get("spec") or {})
    return errs


def _spec(errs: Errors, spec: Object) -> None:
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errs.append(field.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errs.append(field.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    strategy = spec.get("strategy")
    if strategy is not None:
        # The path has the field's name twice, and has always had.
        if "/" in strategy:
            qualified(errs, strategy, "spec.strategy.strategy")
        elif strategy != _STRATEGY:
            errs.append(field.not_supported("spec.strategy.strategy", strategy, (_STRATEGY,)))
    if spec.get("preferredHolder") and not strategy:
        errs.append(field.forbidden("spec.preferredHolder", "may only be specified if `strategy` is defined"))
