"""A pod's conditions: PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.meta.conditions import find_condition, transition_time
from tiphys.api.object import Object
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import sandbox_changed
from tiphys.kubelet.pod.observed import PodStatus
from tiphys.kubelet.pod.pods import Pod

OWNED = frozenset(
    (
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
        "PodResizePending",
        "PodResizeInProgress",
        "AllContainersRestarting",
    )
)
"""Conditions that the kubelet alone writes."""


def pod_conditions(
    pod: Pod, observed: PodStatus, statuses: Sequence[Object], phase: str, others: Sequence[Object]
) -> list[Object]:
    """The conditions of the kubelet, without times. ``others`` are those that others write (readiness gates)."""
    ready_containers = _containers_ready(pod, statuses, phase)
    conditions = [
        _condition("PodReadyToStartContainers", status=not sandbox_changed(pod, observed)[0]),
        _initialized(pod, statuses, phase),
        _ready(pod, ready_containers, others),
        {"type": "ContainersReady", **ready_containers},
        _condition("PodScheduled", status=True),
    ]
    if generation := pod["metadata"].get("generation"):
        for condition in conditions:
            condition["observedGeneration"] = generation
    return conditions


def _condition(type_: str, reason: str = "", message: str = "", *, status: bool) -> Object:
    condition: Object = {"type": type_, "status": "True" if status else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _names(names: Sequence[str]) -> str:
    return "[" + " ".join(names) + "]"


def _containers_ready(pod: Pod, statuses: Sequence[Object], phase: str) -> Object:
    by_name = {status["name"]: status for status in statuses}
    specs = [*(c for c in pods.init_containers(pod) if pods.is_sidecar(c)), *pods.containers(pod)]
    unknown = [spec["name"] for spec in specs if spec["name"] not in by_name]
    unready = [s["name"] for s in specs if s["name"] in by_name and not by_name[s["name"]].get("ready")]
    if phase == "Succeeded" and not unknown:
        condition = _condition("", status=False, reason="PodCompleted")
    elif phase == "Failed":
        condition = _condition("", status=False, reason="PodFailed")
    elif unknown or unready:
        parts = [f"containers with unknown status: {_names(unknown)}"] if unknown else []
        parts += [f"containers with unready status: {_names(unready)}"] if unready else []
        condition = _condition("", status=False, reason="ContainersNotReady", message=", ".join(parts))
    else:
        condition = _condition("", status=True)
    del condition["type"]
    return condition


def _ready(pod: Pod, containers_ready: Object, others: Sequence[Object]) -> Object:
    if containers_ready["status"] != "True":
        return {"type": "Ready", **containers_ready}
    problems = []
    for gate in pods.spec_of(pod).get("readinessGates") or []:
        name = gate["conditionType"]
        condition = find_condition(others, name)
        if condition is None:
            problems.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif condition.get("status") != "True":
            problems.append(
                f'the status of pod readiness gate "{name}" is not "True", but {condition.get("status", "")}'
            )
    if problems:
        return _condition("Ready", status=False, reason="ReadinessGatesNotReady", message=", ".join(problems))
    return _condition("Ready", status=True)


def _initialized(pod: Pod, statuses: Sequence[Object], phase: str) -> Object:
    by_name = {status["name"]: status for status in statuses}
    unknown: list[str] = []
    incomplete: list[str] = []
    for spec in pods.init_containers(pod):
        status = by_name.get(spec["name"])
        if status is None:
            unknown.append(spec["name"])
        elif not status.get("started" if pods.is_sidecar(spec) else "ready"):
            incomplete.append(spec["name"])
    if phase == "Succeeded" and not unknown:
        return _condition("Initialized", status=True, reason="PodCompleted")
    if any(_has_started(by_name.get(spec["name"])) for spec in pods.containers(pod)):
        return _condition("Initialized", status=True)
    parts = [f"containers with unknown status: {_names(unknown)}"] if unknown else []
    parts += [f"containers with incomplete status: {_names(incomplete)}"] if incomplete else []
    if parts:
        return _condition("Initialized", status=False, reason="ContainersNotInitialized", message=", ".join(parts))
    return _condition("Initialized", status=True)


def _has_started(status: Object | None) -> bool:
    """Whether a regular container has ever been running."""
    if status is None:
        return False
    state = status.get("state") or {}
    return bool(
        status.get("started")
        or "running" in state
        or "terminated" in state
        or (status.get("lastState") or {}).get("terminated")
    )


def stamp(conditions: Sequence[Object], before: Sequence[Object], now: str) -> list[Object]:
    """Give each condition the time of its last change of status."""
    stamped = []
    for condition in conditions:
        since = transition_time(find_condition(before, condition["type"]), condition["status"], now)
        stamped.append({**condition, "lastProbeTime": None, "lastTransitionTime": since})
    return stamped
