"""Defaults of the scheduling.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#priorityclass-v1-scheduling-k8s-io
"""

from __future__ import annotations

from typing import Any

from tiphys.api.defaults.common import if_missing


def priority_class(obj: dict[str, Any]) -> None:
    if_missing(obj, preemptionPolicy="PreemptLowerPriority")
