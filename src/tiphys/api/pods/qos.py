"""The quality-of-service class of a pod.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.meta.quantity import Quantity, parse

Object = dict[str, Any]
Amounts = dict[str, Quantity]

_COUNTED = ("cpu", "memory")


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort. Where the pod itself has resources, even empty ones, they alone count."""
    if spec.get("resources") is not None:
        parts = [spec["resources"]]
    else:
        containers = (spec.get("containers") or []) + (spec.get("initContainers") or [])
        parts = [container.get("resources") or {} for container in containers]
    requests, limits = _sum(parts, "requests"), _sum(parts, "limits")
    if not requests and not limits:
        return "BestEffort"
    limited = all(len(_positive(part.get("limits"))) == len(_COUNTED) for part in parts)
    return "Guaranteed" if limited and requests == limits else "Burstable"


def _sum(parts: list[Object], kind: str) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for name, amount in _positive(part.get(kind)).items():
            total[name] = total[name] + amount if name in total else amount
    return total


def _positive(amounts: Object | None) -> Amounts:
    found = {name: parse(str(amounts[name])) for name in _COUNTED if amounts and name in amounts}
    return {name: quantity for name, quantity in found.items() if quantity.sign > 0}
