"""What pods ask for and nodes offer, as integers: CPU in thousandths, everything else in units (bytes, pieces).

A pod needs the larger of what its containers need together and what each init container needs beside the sidecars
started before it, plus its overhead; pod-level requests replace the sum. Sources:
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers, KEP-753,
KEP-2837.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from tiphys.api.meta.quantity import Quantity

Amounts = dict[str, int]
Object = dict[str, Any]

CPU, MEMORY, EPHEMERAL, PODS = "cpu", "memory", "ephemeral-storage", "pods"

DEFAULT_CPU = 100
DEFAULT_MEMORY = 200 * 1024 * 1024
"""What a container that asks for nothing counts for in scoring, so that such pods spread too."""

_POD_LEVEL = frozenset({CPU, MEMORY})


@lru_cache(4096)
def amount(resource: str, text: str) -> int:
    """A quantity as an integer, rounded up."""
    nano = Quantity(text).nano
    unit = 1_000_000 if resource == CPU else 1_000_000_000
    return -(-nano // unit)


def amounts(resources: Mapping[str, Any] | None) -> Amounts:
    return {name: amount(name, str(text)) for name, text in (resources or {}).items()}


def pod_requests(pod: Object) -> tuple[Amounts, int, int]:
    """What the pod asks for, and its CPU and memory as scoring counts them."""
    exact = _aggregate(pod, defaults=False)
    scored = _aggregate(pod, defaults=True)
    return exact, scored.get(CPU, 0), scored.get(MEMORY, 0)


def _aggregate(pod: Object, *, defaults: bool) -> Amounts:
    spec = pod.get("spec") or {}
    statuses = _resized(pod)
    total: Amounts = {}
    for container in spec.get("containers") or ():
        _add(total, _container(container, statuses, defaults))
    sidecars: Amounts = {}
    largest: Amounts = {}
    for container in spec.get("initContainers") or ():
        needed = _container(container, statuses, defaults)
        if container.get("restartPolicy") == "Always":
            _add(total, needed)
            _add(sidecars, needed)
            needed = dict(sidecars)
        else:
            _add(needed, sidecars)
        _raise(largest, needed)
    _raise(total, largest)
    pod_level = ((spec.get("resources") or {}).get("requests")) or {}
    for name, text in pod_level.items():
        if name in _POD_LEVEL or name.startswith("hugepages-"):
            total[name] = amount(name, str(text))
    _add(total, amounts(spec.get("overhead")))
    return total


def _container(container: Object, statuses: Mapping[str, Object], defaults: bool) -> Amounts:
    found = amounts((container.get("resources") or {}).get("requests"))
    status = statuses.get(container.get("name", ""))
    if status is not None:
        # A resize in progress holds the larger of what is asked for, granted and in force.
        for granted in ((status.get("resources") or {}).get("requests"), status.get("allocatedResources")):
            _raise(found, amounts(granted))
    if defaults:
        found.setdefault(CPU, DEFAULT_CPU)
        found.setdefault(MEMORY, DEFAULT_MEMORY)
    return found


def _resized(pod: Object) -> dict[str, Object]:
    status = pod.get("status") or {}
    entries = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return {entry["name"]: entry for entry in entries if entry.get("resources")}


def _add(total: Amounts, more: Mapping[str, int]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: Amounts, other: Mapping[str, int]) -> None:
    for name, value in other.items():
        if value > total.get(name, 0):
            total[name] = value


def is_zero(requests: Mapping[str, int], names: Iterable[str]) -> bool:
    return not any(requests.get(name) for name in names)
