"""The whole status of a pod. Pure: everything it needs comes in, and the same input gives the same status.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.conditions import find_condition
from tiphys.api.object import Object
from tiphys.api.pods.qos import qos_of
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import ProbeResult
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.observed import PodStatus
from tiphys.kubelet.pod.pods import ContainerKind, Pod
from tiphys.kubelet.pod.resizer import ResizeState
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.kubelet.status.conditions import OWNED, pod_conditions, stamp
from tiphys.kubelet.status.containers import Reasons, Resized, container_statuses, fill_readiness
from tiphys.kubelet.status.phase import pod_phase

MAX_MESSAGES = 12 << 10
_TERMINAL = ("Succeeded", "Failed")
_STATUSES = {
    ContainerKind.REGULAR: "containerStatuses",
    ContainerKind.INIT: "initContainerStatuses",
    ContainerKind.EPHEMERAL: "ephemeralContainerStatuses",
}


def _no_probe(*_: object) -> bool | None:
    return None


def _always(*_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class StatusContext:
    """What else a status depends on, beside the pod and the runtime."""

    before: Object
    """The status last known: the one last sent, or the API's."""
    now: str
    host_ips: Sequence[str] = ()
    runtime_name: str = "containerd"
    reasons: Reasons = field(default_factory=dict)
    probe: ProbeResult = _no_probe
    was_ready: Callable[[str, str], bool | None] = _no_probe
    terminal: bool = False
    """Whether the pod has been stopped, and nothing of it will run again."""
    ending: Ending | None = None
    """Set if the kubelet has decided that the pod fails."""
    resized: Resized = _always
    resize: ResizeState = field(default_factory=ResizeState)


def generate_status(pod: Pod, observed: PodStatus, context: StatusContext) -> Object:
    """The status of ``pod``, given what the runtime shows."""
    before = context.before
    status: Object = {}
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    for kind, name in _STATUSES.items():
        statuses = container_statuses(
            pod, kind, observed, before.get(name) or [], context.reasons, context.runtime_name, context.resized
        )
        if statuses:
            status[name] = statuses
    fill_readiness(pod, status, context.probe, context.was_ready)
    _shorten_messages(pod, status)
    main = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    _set_phase(pod, observed, status, main, context)
    others = [c for c in (pod.get("status") or {}).get("conditions") or [] if c["type"] not in OWNED]
    if (disrupted := find_condition(before.get("conditions") or [], "DisruptionTarget")) is not None:
        others = [c for c in others if c["type"] != "DisruptionTarget"] + [disrupted]
    if context.ending is not None and context.ending.disrupted:
        others = [c for c in others if c["type"] != "DisruptionTarget"] + [_disrupted(pod, before, context)]
    own = _resize_conditions(pod, context) + pod_conditions(pod, observed, main, status["phase"], others)
    status["conditions"] = [*others, *stamp(own, before.get("conditions") or [], context.now)]
    _set_addresses(pod, observed, status, context)
    status["qosClass"] = qos_of(pod)
    status["startTime"] = before.get("startTime") or (pod.get("status") or {}).get("startTime") or context.now
    return status


def _shorten_messages(pod: Pod, status: Object) -> None:
    """The last words of all containers of a pod share 12 KiB: each has its part, whatever the others say."""
    limit = MAX_MESSAGES // max(1, sum(1 for _ in pods.all_containers(pod)))
    for name in _STATUSES.values():
        for container in status.get(name) or []:
            for state in ("state", "lastState"):
                ended = (container.get(state) or {}).get("terminated") or {}
                text = str(ended.get("message") or "")
                if len(text) > limit // 4 and len(data := text.encode()) > limit:
                    shorter = {**ended, "message": data[:limit].decode(errors="replace")}
                    container[state] = {"terminated": shorter}


def _disrupted(pod: Pod, before: Object, context: StatusContext) -> Object:
    assert context.ending is not None
    condition: Object = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    condition["message"] = context.ending.disrupted
    if generation := pod["metadata"].get("generation"):
        condition["observedGeneration"] = generation
    return stamp([condition], before.get("conditions") or [], context.now)[0]


def _resize_conditions(pod: Pod, context: StatusContext) -> list[Object]:
    if context.terminal:
        return []
    conditions: list[Object] = []
    generation = pod["metadata"].get("generation")
    if (problem := context.resize.problem) is not None:
        pending = {"type": "PodResizePending", "status": "True", "reason": problem.reason, "message": problem.message}
        conditions.append(pending | ({"observedGeneration": generation} if generation else {}))
    if context.resize.in_progress:
        running = {"type": "PodResizeInProgress", "status": "True"}
        if context.resize.error:
            running |= {"reason": "Error", "message": context.resize.error}
        began = context.resize.generation
        conditions.append(running | ({"observedGeneration": began} if began else {}))
    return conditions


def _set_phase(
    pod: Pod, observed: PodStatus, status: Object, statuses: Sequence[Object], context: StatusContext
) -> None:
    """The phase; a terminal phase, once known or reported, is never left again."""
    phase = pod_phase(pod, statuses, terminal=context.terminal, was_initialized=_was_initialized(pod, observed))
    known = (pods.phase_of(pod), str(context.before.get("phase") or ""))
    if phase not in _TERMINAL or known[0] in _TERMINAL:
        phase = next((old for old in known if old in _TERMINAL), phase)
    if phase == context.before.get("phase"):
        for name in ("reason", "message"):
            if text := context.before.get(name) or (pod.get("status") or {}).get(name):
                status[name] = text
    status["phase"] = phase
    if (ending := context.ending) is not None:
        status |= {"phase": "Failed", "reason": ending.reason, "message": ending.message}


def _was_initialized(pod: Pod, observed: PodStatus) -> bool:
    """Whether a regular container of the current sandbox has been started."""
    if not observed.sandboxes:
        return False
    names = {spec["name"] for spec in pods.containers(pod)}
    current = observed.sandboxes[0]
    return current.ready and any(
        run.name in names
        and run.sandbox_id == current.id
        and run.state in (ContainerState.RUNNING, ContainerState.EXITED)
        for run in observed.containers
    )


def _set_addresses(pod: Pod, observed: PodStatus, status: Object, context: StatusContext) -> None:
    if context.host_ips:
        status["hostIP"] = context.host_ips[0]
        status["hostIPs"] = [{"ip": ip} for ip in context.host_ips]
    ips = list(observed.ips)
    if not ips and not observed.ready_sandboxes:
        # A pod that has ended keeps showing the address that it had.
        ips = [entry["ip"] for entry in context.before.get("podIPs") or []]
    if not ips and pods.host_network(pod):
        ips = list(context.host_ips)
    if ips:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]


def rejected_status(pod: Pod, reason: str, message: str, now: str) -> Object:
    """The status of a pod that the node does not take."""
    status: Object = {
        "phase": "Failed",
        "reason": reason,
        "message": f"Pod was rejected: {message}",
        "qosClass": qos_of(pod),
        "startTime": now,
    }
    if generation := pod["metadata"].get("generation"):
        status["observedGeneration"] = generation
    return status
