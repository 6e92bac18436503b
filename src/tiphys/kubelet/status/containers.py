"""containerStatuses from what the runtime shows, the statuses before, and why containers could not be started. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#container-states
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import Probe, ProbeResult, has_created_regular_container
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus
from tiphys.kubelet.pod.pods import ContainerKind, ContainerSpec, Pod
from tiphys.kubelet.pod.restarts import should_run
from tiphys.kubelet.runtime.service import ContainerState
from tiphys.kubelet.runtime.stop_signals import NAMES

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"
STATUS_UNKNOWN = "ContainerStatusUnknown"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a container is not running: the waiting state's reason and message."""

    reason: str
    message: str


Reasons = Mapping[str, Reason]
"""By container name."""

Resized = Callable[[ContainerSpec, ObservedContainer], bool]
"""Whether a running container has the resources that its spec asks for."""


def container_statuses(
    pod: Pod,
    kind: ContainerKind,
    observed: PodStatus,
    before: Sequence[Object],
    reasons: Reasons,
    runtime_name: str,
    resized: Resized,
) -> list[Object]:
    """The statuses of one kind of the pod's containers, without ``ready`` and ``started``."""
    specs = pods.spec_of(pod).get(kind.value) or []
    old = {status["name"]: status for status in before}
    statuses: dict[str, Object] = {}
    for spec in specs:
        name = spec["name"]
        runs = [run for run in observed.containers if run.name == name][:2]
        status = _default(pod, spec, old.get(name))
        if runs:
            status = _from_run(spec, runs[0], old.get(name), runtime_name, resized)
            if len(runs) > 1:
                status["lastState"] = _state(runs[1], None, runtime_name)
        elif name in old:
            _infer_from_before(pod, status, old[name])
        statuses[name] = status
    for spec in specs:
        _waiting(pod, kind, spec, observed, statuses[spec["name"]], reasons)
    ordered = specs if kind is ContainerKind.INIT else sorted(specs, key=lambda spec: spec["name"])
    return [statuses[spec["name"]] for spec in ordered]


def _default(pod: Pod, spec: ContainerSpec, old: Object | None) -> Object:
    """The status of a container that the runtime does not know."""
    if old is not None and "terminated" in (old.get("state") or {}):
        return dict(old)
    reason = POD_INITIALIZING if pods.init_containers(pod) else CONTAINER_CREATING
    status: Object = {
        "name": spec["name"],
        "state": {"waiting": {"reason": reason}},
        "lastState": dict((old or {}).get("lastState") or {}),
        "ready": False,
        "restartCount": int((old or {}).get("restartCount") or 0),
        "image": spec.get("image", ""),
        "imageID": "",
    }
    if mounts := _volume_mounts(spec):
        status["volumeMounts"] = mounts
    return status


def _volume_mounts(spec: ContainerSpec) -> list[Object]:
    mounts = []
    for mount in spec.get("volumeMounts") or []:
        status: Object = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            status |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
        mounts.append(status)
    return mounts


def _from_run(
    spec: ContainerSpec, run: ObservedContainer, old: Object | None, runtime_name: str, resized: Resized
) -> Object:
    """The status of a container from its newest run; what the run does not show is kept from ``old``."""
    status: Object = {
        "name": run.name,
        "state": _state(run, old, runtime_name),
        "lastState": {},
        "ready": False,
        "restartCount": run.restart_count,
        "image": run.image,
        "imageID": run.image_ref,
        "containerID": f"{runtime_name}://{run.id}",
    }
    if mounts := (old or {}).get("volumeMounts") or _volume_mounts(spec):
        status["volumeMounts"] = mounts
    if old is not None:
        status["lastState"] = _last_state(run, old, runtime_name)
        status["restartCount"] = max(run.restart_count, int(old.get("restartCount") or 0))
        if run.running and old.get("started") is not None:
            status["started"] = old["started"]
    _set_resources(spec, run, old, status, resized)
    if run.user is not None:
        uid, gid, groups = run.user
        status["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(groups)}}
    if signal := NAMES.get(run.stop_signal):
        status["stopSignal"] = signal
    return status


def _set_resources(
    spec: ContainerSpec, run: ObservedContainer, old: Object | None, status: Object, resized: Resized
) -> None:
    """What the container was given, and what it has: the same, but while a resize is under way."""
    resources = spec.get("resources") or {}
    if requests := resources.get("requests"):
        status["allocatedResources"] = requests
    if run.running and old and old.get("resources") and not resized(spec, run):
        status["resources"] = old["resources"]
    elif resources:
        status["resources"] = resources


def _last_state(run: ObservedContainer, old: Object, runtime_name: str) -> Object:
    """How the run before ended, as the API knows it; what the runtime still knows replaces it."""
    ended = (old.get("state") or {}).get("terminated")
    if ended and old.get("containerID") != f"{runtime_name}://{run.id}":
        return {"terminated": ended}
    return dict(old.get("lastState") or {})


def _state(run: ObservedContainer, old: Object | None, runtime_name: str) -> Object:
    if run.state is ContainerState.RUNNING:
        return {"running": {"startedAt": timestamp(run.started_at)}}
    if run.state is ContainerState.EXITED:
        ended: Object = {"exitCode": run.exit_code}
        if run.reason:
            ended["reason"] = run.reason
        if run.message:
            ended["message"] = run.message
        ended["startedAt"] = timestamp(run.started_at) if run.started_at > 0 else None
        ended["finishedAt"] = timestamp(run.finished_at) if run.finished_at > 0 else None
        ended["containerID"] = f"{runtime_name}://{run.id}"
        return {"terminated": ended}
    if run.state is ContainerState.UNKNOWN and "running" in ((old or {}).get("state") or {}):
        return {"terminated": _lost("The container could not be located when the pod was terminated")}
    return {"waiting": {}}


def _lost(message: str) -> Object:
    return {
        "exitCode": 137,
        "reason": STATUS_UNKNOWN,
        "message": message,
        "startedAt": None,
        "finishedAt": None,
    }


def _infer_from_before(pod: Pod, status: Object, old: Object) -> None:
    """A container that was running and that the runtime no longer knows has ended, though nobody saw how."""
    if "running" not in (old.get("state") or {}) or (status.get("lastState") or {}).get("terminated"):
        return
    message = "The container could not be located when the pod was deleted.  The container used to be Running"
    status["lastState"] = {"terminated": _lost(message)}
    if not pods.is_deleting(pod):
        status["restartCount"] += 1


def _waiting(
    pod: Pod, kind: ContainerKind, spec: ContainerSpec, observed: PodStatus, status: Object, reasons: Reasons
) -> None:
    """A container that is to be started again is waiting, with the reason why it is not yet running."""
    run = observed.find(spec["name"])
    if kind is ContainerKind.INIT:
        if run is not None and run.state is ContainerState.EXITED and run.exit_code == 0:
            return
        lost = run is None and "waiting" in status["state"] and not pods.is_sidecar(spec)
        if lost and has_created_regular_container(pod, observed):
            message = (
                "Unable to get init container status from container runtime and pod has been initialized, "
                "treat it as exited normally"
            )
            status["state"] = {
                "terminated": {
                    "exitCode": 0,
                    "reason": "Completed",
                    "message": message,
                    "startedAt": None,
                    "finishedAt": None,
                }
            }
            return
    reason = reasons.get(spec["name"])
    if reason is None or not should_run(pod, spec, observed):
        return
    if "terminated" in status["state"]:
        status["lastState"] = status["state"]
    waiting = {"reason": reason.reason}
    if reason.message:
        waiting["message"] = reason.message
    status["state"] = {"waiting": waiting}


def container_id(status: Object) -> str:
    """The runtime's id, without the scheme."""
    return str(status.get("containerID") or "").rpartition("//")[2]


def fill_readiness(pod: Pod, status: Object, probe: ProbeResult, was_ready: Callable[[str, str], bool | None]) -> None:
    """Set ``started`` and ``ready`` of every container.

    ``was_ready(name, id)`` says what is known of a container that was running before this kubelet started: a restart
    of the kubelet must not make ready pods unready until their first probe.
    """
    specs = {spec["name"]: spec for _, spec in pods.all_containers(pod)}
    for container in status.get("containerStatuses") or []:
        _fill(specs[container["name"]], container, probe, was_ready)
    for container in status.get("initContainerStatuses") or []:
        spec = specs[container["name"]]
        if pods.is_sidecar(spec):
            _fill(spec, container, probe, was_ready)
            continue
        container["started"] = "running" in container["state"] and _started(spec, container, probe)
        container["ready"] = (container["state"].get("terminated") or {}).get("exitCode") == 0


def _started(spec: ContainerSpec, container: Object, probe: ProbeResult) -> bool:
    if "running" not in container["state"]:
        return False
    if (result := probe(Probe.STARTUP, container_id(container))) is not None:
        return result
    return bool(container.get("started")) or not spec.get("startupProbe")


def _fill(
    spec: ContainerSpec, container: Object, probe: ProbeResult, was_ready: Callable[[str, str], bool | None]
) -> None:
    container["started"] = _started(spec, container, probe)
    container["ready"] = False
    if not container["started"]:
        return
    if not spec.get("readinessProbe"):
        container["ready"] = True
        return
    runtime_id = container_id(container)
    result = probe(Probe.READINESS, runtime_id)
    if result is None:
        result = was_ready(spec["name"], runtime_id)
    container["ready"] = bool(result)
