"""Changing a running container's processor and memory in place: what differs, and what it takes. Pure.

What a container has is what the runtime reports; that is compared with what its pod was given (see allocation.py).
Source: https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/ (KEP-1287)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.pods.resources import pod_requests, whole
from tiphys.kubelet.pod.observed import ObservedContainer
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.quantities import milli, value

Wanted = Callable[[Pod, ContainerSpec], dict[str, Any]]
"""The resources of a container as the runtime takes them: the shape of ``LinuxContainerResources``."""

_FIELDS = {"cpu": ("cpu_shares", "cpu_quota"), "memory": ("memory_limit_in_bytes",)}


@dataclass(frozen=True, slots=True)
class Resize:
    container_id: str
    name: str
    resources: Mapping[str, Any]


def changed_resources(wanted: Mapping[str, Any], current: ObservedContainer) -> list[str]:
    """Which of cpu and memory differ. Empty if the runtime does not report what the container has."""
    has = current.resources
    if not has or not any(has.get(field) for fields in _FIELDS.values() for field in fields):
        return []
    names = []
    for name, fields in _FIELDS.items():
        # A limit that was removed cannot be lifted from a running container: 0 means "leave it".
        if any(wanted.get(field) and wanted[field] != (has.get(field) or 0) for field in fields):
            names.append(name)
    return names


def needs_restart(container: ContainerSpec, changed: list[str]) -> bool:
    policies = {p["resourceName"]: p.get("restartPolicy") for p in container.get("resizePolicy") or []}
    return any(policies.get(name) == "RestartContainer" for name in changed)


@dataclass(frozen=True, slots=True)
class ResizeProblem:
    """Why a resize cannot be done now: the reason and message of the condition PodResizePending."""

    reason: str
    """``Infeasible`` if the node is too small, ``Deferred`` if it is too full."""
    message: str


def resize_problem(pod: Pod, others: list[Pod], allocatable: Mapping[str, str]) -> ResizeProblem | None:
    """Whether the node can give a pod what it now asks for, beside the other pods."""
    used: dict[str, int] = {}
    for other in others:
        for name, amount in whole(pod_requests(other)).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in whole(pod_requests(pod)).items():
        if name not in ("cpu", "memory"):
            continue
        capacity = milli(allocatable.get(name)) if name == "cpu" else value(allocatable.get(name))
        if amount > capacity:
            message = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {capacity}"
            return ResizeProblem("Infeasible", message)
        if used.get(name, 0) + amount > capacity:
            message = (
                f"Node didn't have enough resource: {name}, requested: {amount}, "
                f"used: {used.get(name, 0)}, capacity: {capacity}"
            )
            return ResizeProblem("Deferred", message)
    return None
