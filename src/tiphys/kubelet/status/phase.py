"""A pod's phase from the states of its containers. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.pod.restarts import restarts_after_exit


@dataclass(slots=True)
class _Count:
    pending_init: int = 0
    pending_sidecars: int = 0
    failed_init: int = 0
    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    stopped_for_good: int = 0
    succeeded: int = 0


def pod_phase(pod: Pod, statuses: Iterable[Object], *, terminal: bool, was_initialized: bool) -> str:
    """Pending, Running, Succeeded or Failed.

    ``terminal``: nothing of the pod runs any more and nothing will; ``was_initialized``: a regular container of the
    current sandbox has been started before.
    """
    by_name = {status["name"]: status for status in statuses}
    count = _Count()
    for spec in pods.init_containers(pod):
        (_count_sidecar if pods.is_sidecar(spec) else _count_init)(pod, spec, by_name.get(spec["name"]), count)
    for spec in pods.containers(pod):
        _count_regular(pod, spec, by_name.get(spec["name"]), count)
    if count.failed_init:
        return "Failed"
    if count.pending_init or (count.pending_sidecars and not was_initialized) or count.waiting:
        return "Pending"
    if count.running and not count.unknown:
        return "Running"
    if not count.running and count.stopped and not count.unknown:
        return _phase_of_stopped(pod, count, terminal=terminal)
    return "Pending"


def _phase_of_stopped(pod: Pod, count: _Count, *, terminal: bool) -> str:
    ended = "Succeeded" if count.stopped == count.succeeded else "Failed"
    if terminal and not pods.is_static(pod):
        return ended
    # Those that will run again keep the pod going.
    return ended if count.stopped == count.stopped_for_good else "Running"


def _exit_code(status: Object) -> int | None:
    """The exit code of the last run, if that run has ended and the next one has not begun."""
    state = status.get("state") or {}
    ended = state.get("terminated")
    if ended is None and "running" not in state:
        ended = (status.get("lastState") or {}).get("terminated")
    return None if ended is None else int(ended.get("exitCode") or 0)


def _count_init(pod: Pod, spec: ContainerSpec, status: Object | None, count: _Count) -> None:
    code = None if status is None else _exit_code(status)
    if code is None:
        count.pending_init += 1
    elif code != 0 and not restarts_after_exit(pod, spec, code):
        count.failed_init += 1


def _count_sidecar(pod: Pod, spec: ContainerSpec, status: Object | None, count: _Count) -> None:
    if status is None:
        count.unknown += 1
        return
    state = status.get("state") or {}
    if "running" in state:
        count.running += 1
        if not status.get("started"):
            count.pending_sidecars += 1
    elif "terminated" not in state and not (status.get("lastState") or {}).get("terminated"):
        count.pending_sidecars += 1
        if "waiting" in state:
            count.waiting += 1
        else:
            count.unknown += 1


def _count_regular(pod: Pod, spec: ContainerSpec, status: Object | None, count: _Count) -> None:
    if status is None:
        count.unknown += 1
        return
    state = status.get("state") or {}
    if "running" in state:
        count.running += 1
        return
    code = _exit_code(status)
    if code is None:
        count.waiting += 1
        return
    count.stopped += 1
    if not restarts_after_exit(pod, spec, code):
        count.stopped_for_good += 1
    if "terminated" in state and code == 0:
        count.succeeded += 1
