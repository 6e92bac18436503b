"""The row of a pod: the one line that sums up phase, containers, restarts and deletion.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.meta.timestamps import parse_seconds
from tiphys.api.object import Object
from tiphys.api.tables.formats import (
    NONE,
    Cells,
    age,
    conditions,
    grown,
    name,
)

Status = Mapping[str, Any]


@dataclass(slots=True)
class _Summary:
    """What the containers amount to, gathered in the order in which they start."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: float | None = None

    def count_restarts(self, status: Status) -> None:
        self.restarts += status.get("restartCount", 0)
        finished = (status.get("lastState") or {}).get("terminated", {}).get("finishedAt")
        if finished:
            self.last_restart = max(self.last_restart or 0.0, parse_seconds(finished))


def print_pod(pod: Object, now: float) -> Cells:
    """The row of a pod; init containers decide the status until they have finished.

    ``now`` in seconds since the epoch.
    """
    spec, status = pod["spec"], pod.get("status") or {}
    sidecars = {c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    summary = _Summary(_own_reason(pod))
    initializing = _add_init_containers(summary, pod, sidecars)
    initialized = conditions(pod).get("Initialized", {}).get("status") == "True"
    if not initializing or initialized:
        summary = _without_init_restarts(summary, pod, sidecars)
        _add_containers(summary, pod)
    total = len(spec.get("containers") or []) + len(sidecars)
    return [
        name(pod),
        f"{summary.ready}/{total}",
        _with_deletion(summary.reason, pod),
        _restarts(summary, now),
        age(pod, now),
        next((ip.get("ip") for ip in status.get("podIPs") or [] if ip.get("ip")), NONE),
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(pod),
    ]


def row_conditions(pod: Object) -> list[dict[str, str]]:
    """A pod that has ended is marked as completed, so that clients can leave it out."""
    phase = (pod.get("status") or {}).get("phase")
    messages = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}
    if phase not in messages:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": messages[phase]}]


def _own_reason(pod: Object) -> str:
    status = pod.get("status") or {}
    if conditions(pod).get("PodScheduled", {}).get("reason") == "SchedulingGated":
        return "SchedulingGated"
    return str(status.get("reason") or status.get("phase", ""))


def _add_init_containers(summary: _Summary, pod: Object, sidecars: set[str]) -> bool:
    """Whether the pod is still initializing; the first container that is not done says how."""
    total = len(pod["spec"].get("initContainers") or [])
    for number, status in enumerate((pod.get("status") or {}).get("initContainerStatuses") or []):
        summary.count_restarts(status)
        state = status.get("state") or {}
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode", 0) == 0:
            continue
        if status["name"] in sidecars and status.get("started"):
            summary.ready += bool(status.get("ready"))
            continue
        waiting = (state.get("waiting") or {}).get("reason", "")
        if ended is not None:
            summary.reason = f"Init:{_ending(ended)}"
        elif waiting and waiting != "PodInitializing":
            summary.reason = f"Init:{waiting}"
        else:
            summary.reason = f"Init:{number}/{total}"
        return True
    return False


def _without_init_restarts(before: _Summary, pod: Object, sidecars: set[str]) -> _Summary:
    """Once a pod is initialized, only restarts of sidecars count among those of its init containers."""
    summary = _Summary(before.reason, before.ready)
    for status in (pod.get("status") or {}).get("initContainerStatuses") or []:
        if status["name"] in sidecars:
            summary.count_restarts(status)
    return summary


def _add_containers(summary: _Summary, pod: Object) -> None:
    running, failure = False, ""
    for status in reversed((pod.get("status") or {}).get("containerStatuses") or []):
        summary.count_restarts(status)
        state = status.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            summary.reason = waiting["reason"]
        elif ended is not None:
            summary.reason = _ending(ended)
            if ended.get("exitCode", 0) != 0:
                failure = summary.reason
        elif status.get("ready") and "running" in state:
            running = True
            summary.ready += 1
    if summary.reason == "Completed":
        summary.reason = _completed(pod, running=running, failure=failure)


def _completed(pod: Object, failure: str, *, running: bool) -> str:
    """What to say if one container completed, and others may not have."""
    if running and conditions(pod).get("Ready", {}).get("status") == "True":
        return "Running"
    return failure or ("NotReady" if running else "Completed")


def _ending(ended: Status) -> str:
    if reason := ended.get("reason"):
        return str(reason)
    if signal := ended.get("signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _with_deletion(reason: str, pod: Object) -> str:
    if not pod["metadata"].get("deletionTimestamp"):
        return reason
    status = pod.get("status") or {}
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if status.get("phase") in ("Succeeded", "Failed") else "Terminating"


def _restarts(summary: _Summary, now: float) -> str:
    if summary.restarts and summary.last_restart is not None:
        return f"{summary.restarts} ({grown(summary.last_restart, now)} ago)"
    return str(summary.restarts)


def _readiness_gates(pod: Object) -> str:
    gates = pod["spec"].get("readinessGates") or []
    if not gates:
        return NONE
    by_type = conditions(pod)
    true = sum(by_type.get(g["conditionType"], {}).get("status") == "True" for g in gates)
    return f"{true}/{len(gates)}"
