"""The quality-of-service class of a pod.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from tiphys.api.meta.quantity import Quantity, parse
from tiphys.api.object import Object

Amounts = dict[str, Quantity]

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"

_COUNTED = ("cpu", "memory")


def qos_of(pod: Object) -> str:
    """The class in a pod's status if it is set, as it never changes; else what its spec says."""
    return str((pod.get("status") or {}).get("qosClass") or "") or qos_class(pod.get("spec") or {})


def qos_class(spec: Object) -> str:
    """The class that follows from a pod's spec. If the pod itself has resources, only those count, and ``{}``, which
    requests nothing, makes it BestEffort."""
    if spec.get("resources") is not None:
        parts = [spec["resources"]]
    else:
        containers = (spec.get("containers") or []) + (spec.get("initContainers") or [])
        parts = [container.get("resources") or {} for container in containers]
    requests, limits = _sum(parts, "requests"), _sum(parts, "limits")
    if not requests and not limits:
        return BEST_EFFORT
    limited = all(len(_positive(part.get("limits"))) == len(_COUNTED) for part in parts)
    return GUARANTEED if limited and requests == limits else BURSTABLE


def _sum(parts: list[Object], kind: str) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for name, amount in _positive(part.get(kind)).items():
            total[name] = total[name] + amount if name in total else amount
    return total


def _positive(amounts: Object | None) -> Amounts:
    positive = {name: parse(str(amounts[name])) for name in _COUNTED if amounts and name in amounts}
    return {name: quantity for name, quantity in positive.items() if quantity.sign > 0}
