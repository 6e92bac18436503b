"""What pods ask for and nodes offer, as integers: CPU in thousandths, everything else in units (bytes, pieces).

A cache in the scheduler's units over ``tiphys.api.pods.resources``, which says what a pod requests.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tiphys.api.meta.quantity import Quantity
from tiphys.api.object import Object
from tiphys.api.pods import resources
from tiphys.api.pods.resources import has_pod_level_requests, pod_requests, whole

Amounts = dict[str, int]

CPU, MEMORY, EPHEMERAL, PODS = "cpu", "memory", "ephemeral-storage", "pods"

_DEFAULTS: resources.Amounts = {CPU: Quantity.of_milli(100), MEMORY: Quantity.of(200 * 1024 * 1024)}
"""What a container that requests nothing counts for in scoring, so that such pods spread too."""


@lru_cache(4096)
def amount(resource: str, text: str) -> int:
    """A quantity as an integer, rounded up."""
    return whole({resource: Quantity(text)})[resource]


def amounts(described: Mapping[str, Any] | None) -> Amounts:
    return {name: amount(name, str(text)) for name, text in (described or {}).items()}


def counted_requests(pod: Object) -> tuple[Amounts, int, int]:
    """What the pod requests, and its CPU and memory as scoring counts them."""
    exact = pod_requests(pod, resizing=True, pod_level_resizing=True)
    missing: Mapping[str, Quantity] = _DEFAULTS
    if has_pod_level_requests(pod.get("spec") or {}):
        missing = {name: quantity for name, quantity in _DEFAULTS.items() if name not in exact}
    scored = pod_requests(pod, resizing=True, pod_level_resizing=True, missing=missing) if missing else exact
    return whole(exact), scored[CPU].milli_value(), scored[MEMORY].value()
