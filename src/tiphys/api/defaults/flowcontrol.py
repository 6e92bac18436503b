"""Defaults of the flowcontrol.apiserver.k8s.io group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#flowschema-v1-flowcontrol-apiserver-k8s-io
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_empty, if_missing
from tiphys.api.object import Object


def flow_schema(obj: Object) -> None:
    if_empty(child(obj, "spec"), matchingPrecedence=1000)


def priority_level_configuration(obj: Object) -> None:
    spec = obj.get("spec") or {}
    if spec.get("exempt") is not None:
        if_missing(spec["exempt"], nominalConcurrencyShares=0, lendablePercent=0)
    limited = spec.get("limited")
    if limited is not None:
        if_missing(limited, nominalConcurrencyShares=30, lendablePercent=0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            if_empty(queuing, handSize=8, queues=64, queueLengthLimit=50)
