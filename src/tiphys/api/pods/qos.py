"""The quality-of-service class of a pod.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
"""

from __future__ import annotations

from typing import Any

from tiphys.api.meta.quantity import parse

Object = dict[str, Any]

_COUNTED = ("cpu", "memory")


def qos_class(spec: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    if spec.get("resources"):
        return _class_of([spec["resources"]])
    containers = (spec.get("containers") or []) + (spec.get("initContainers") or [])
    return _class_of([container.get("resources") or {} for container in containers])


def _class_of(resources: list[Object]) -> str:
    if not any(_positive(r.get(kind)) for r in resources for kind in ("requests", "limits")):
        return "BestEffort"
    return "Guaranteed" if all(_is_guaranteed(r) for r in resources) else "Burstable"


def _positive(amounts: Object | None) -> dict[str, Any]:
    found = {name: parse(str(amounts[name])) for name in _COUNTED if amounts and name in amounts}
    return {name: quantity for name, quantity in found.items() if quantity.sign > 0}


def _is_guaranteed(resources: Object) -> bool:
    limits, requests = _positive(resources.get("limits")), _positive(resources.get("requests"))
    return set(limits) == set(_COUNTED) and all(limits[name] == value for name, value in requests.items())
