"""What to do for a pod: a pure function of the wanted pod, what the runtime shows, and what the probes say.

The order of the answer's fields is the order in which they are done: kill the pod or some of its containers, create the
sandbox, start ephemeral containers, init containers, containers. Source: the pod lifecycle
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/, …/init-containers/, …/sidecar-containers/).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.observed import ObservedContainer, PodStatus
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.pod.resize import Resize, Wanted, changed_resources, needs_restart
from tiphys.kubelet.pod.restarts import restarts_after_exit, restarts_after_kill, should_run
from tiphys.kubelet.runtime.service import ContainerState


class Probe(Enum):
    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"


class KillReason(Enum):
    """Why a container is killed, if its grace period depends on it."""

    OTHER = ""
    LIVENESS_PROBE = "LivenessProbe"
    STARTUP_PROBE = "StartupProbe"


ProbeResult = Callable[[Probe, str], bool | None]
"""(probe, container id) → passed, failed, or None if there is no result yet."""


@dataclass(frozen=True, slots=True)
class Kill:
    container_id: str
    name: str
    message: str
    reason: KillReason = KillReason.OTHER


@dataclass(slots=True)
class PodActions:
    """What to do. Containers are named by their index in the pod's lists."""

    kill_pod: bool = False
    kill: list[Kill] = field(default_factory=list)
    create_sandbox: bool = False
    sandbox_id: str = ""
    """The sandbox in use, or the one to replace."""
    attempt: int = 0
    start_ephemeral: list[int] = field(default_factory=list)
    start_init: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    resize: list[Resize] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        starts = self.start_ephemeral or self.start_init or self.start
        return not (self.kill_pod or self.kill or self.create_sandbox or starts or self.resize)


def sandbox_changed(pod: Pod, status: PodStatus) -> tuple[bool, int, str]:
    """Whether the pod needs a new sandbox, the attempt that it will be, and the id of the one there is."""
    if not status.sandboxes:
        return True, 0, ""
    newest = status.sandboxes[0]
    if len(status.ready_sandboxes) > 1 or not newest.ready:
        return True, newest.attempt + 1, newest.id
    if newest.host_network != pods.host_network(pod):
        return True, newest.attempt + 1, ""
    if not pods.host_network(pod) and not newest.ips:
        return True, newest.attempt + 1, newest.id
    return False, newest.attempt, newest.id


def compute_actions(pod: Pod, status: PodStatus, probe: ProbeResult, resources: Wanted | None = None) -> PodActions:
    """What brings ``status`` nearer to ``pod``.

    ``resources`` says what a container's resources are to be; without it running containers keep what they have.
    """
    create, attempt, sandbox_id = sandbox_changed(pod, status)
    actions = PodActions(kill_pod=create, create_sandbox=create, sandbox_id=sandbox_id, attempt=attempt)
    if create:
        _start_from_the_beginning(pod, status, actions)
        return actions
    for index, container in enumerate(pods.ephemeral_containers(pod)):
        if status.find(container["name"]) is None:  # an ephemeral container runs once
            actions.start_ephemeral.append(index)
    initialized = _init_containers(pod, status, probe, actions)
    if actions.kill_pod or not initialized:
        return actions
    keep = 0
    for index, container in enumerate(pods.containers(pod)):
        keep += _regular_container(pod, index, container, status, probe, actions, resources)
    for container in pods.init_containers(pod):
        current = status.find(container["name"])
        if current is not None and current.running and resources is not None and pods.is_sidecar(container):
            _resize(pod, container, current, actions, resources)
    if keep == 0 and not actions.start:
        # All are done: end the sandbox, and do not let sidecars keep the pod alive.
        actions.kill_pod = True
        actions.start_init = []
    return actions


def _start_from_the_beginning(pod: Pod, status: PodStatus, actions: PodActions) -> None:
    if pods.restart_policy(pod) == "Never" and actions.attempt != 0 and status.containers:
        actions.create_sandbox = False
        return
    start = [
        index
        for index, container in enumerate(pods.containers(pod))
        if not (_runs_once(pod, container) and _succeeded(container, status))
    ]
    if not start and has_created_regular_container(pod, status):
        actions.create_sandbox = False
        return
    if pods.init_containers(pod):
        actions.start_init = [0]
    else:
        actions.start = start


def _runs_once(pod: Pod, container: ContainerSpec) -> bool:
    return (container.get("restartPolicy") or pods.restart_policy(pod)) == "OnFailure"


def _succeeded(container: ContainerSpec, status: PodStatus) -> bool:
    last = status.find(container["name"])
    return last is not None and last.state is ContainerState.EXITED and last.exit_code == 0


def has_created_regular_container(pod: Pod, status: PodStatus) -> bool:
    """Whether any regular container was ever created: then the init containers are done."""
    known = (status.find(container["name"]) for container in pods.containers(pod))
    return any(c is not None and c.state is not ContainerState.UNKNOWN for c in known)


def _regular_container(
    pod: Pod,
    index: int,
    container: ContainerSpec,
    status: PodStatus,
    probe: ProbeResult,
    actions: PodActions,
    resources: Wanted | None,
) -> int:
    """Decide for one container; gives 1 if it is running and stays."""
    name = container["name"]
    current = status.find(name)
    if current is None or not current.running:
        if should_run(pod, container, status):
            actions.start.append(index)
            if current is not None and current.state is ContainerState.UNKNOWN:
                # It may be running after all: never two at a time.
                message = 'Container is in "unknown" state, try killing it before restart'
                actions.kill.append(Kill(current.id, name, message))
        return 0
    restart, reason = restarts_after_kill(pod, container), KillReason.OTHER
    if definition_changed(container, current):
        message, restart = f"Container {name} definition changed", True
    elif probe(Probe.LIVENESS, current.id) is False:
        message, reason = f"Container {name} failed liveness probe", KillReason.LIVENESS_PROBE
    elif probe(Probe.STARTUP, current.id) is False:
        message, reason = f"Container {name} failed startup probe", KillReason.STARTUP_PROBE
    elif resources is None or not _resize(pod, container, current, actions, resources):
        return 1
    else:
        message, restart = f"Container {name} resize requires restart", True
    if restart:
        message = f"{message}, will be restarted"
        actions.start.append(index)
    actions.kill.append(Kill(current.id, name, message, reason))
    return 0


def _resize(
    pod: Pod, container: ContainerSpec, current: ObservedContainer, actions: PodActions, resources: Wanted
) -> bool:
    """Note a change of resources, if there is one; gives whether it takes a restart of the container."""
    wanted = resources(pod, container)
    changed = changed_resources(wanted, current)
    if not changed:
        return False
    if needs_restart(container, changed):
        return True
    actions.resize.append(Resize(current.id, current.name, wanted))
    return False


def definition_changed(container: ContainerSpec, current: ObservedContainer) -> bool:
    return bool(current.hash) and current.hash != pods.container_hash(container)


def _init_containers(pod: Pod, status: PodStatus, probe: ProbeResult, actions: PodActions) -> bool:
    """Decide for the init containers, last to first; gives whether the pod is initialized.

    Going backwards, the last init container that left a trace shows how far initialization is, even if the
    runtime has removed those before it. Sidecars among them are kept running.
    """
    specs = pods.init_containers(pod)
    if not specs:
        return True
    started = (status.find(c["name"]) for c in pods.containers(pod))
    initialized = any(c and c.state in (ContainerState.CREATED, ContainerState.RUNNING) for c in started)
    previously = initialized
    start: list[int] = []
    for index in range(len(specs) - 1, -1, -1):
        container = specs[index]
        current = status.find(container["name"])
        if current is None:
            if previously and pods.is_sidecar(container):
                start.append(index)
            continue
        if previously and not pods.is_sidecar(container):
            continue
        done = _init_container(pod, index, current, probe, actions, start, previously=previously)
        if actions.kill_pod:
            actions.start_init = []
            return False
        initialized = initialized or (done and index == len(specs) - 1)
        previously = True
    if not previously:
        start.append(0)
    actions.start_init = start[::-1]
    return initialized


def _init_container(
    pod: Pod,
    index: int,
    current: ObservedContainer,
    probe: ProbeResult,
    actions: PodActions,
    start: list[int],
    *,
    previously: bool,
) -> bool:
    """Decide for one init container that left a trace; gives whether it has done its part."""
    specs = pods.init_containers(pod)
    container = specs[index]
    last = index == len(specs) - 1
    if current.state is ContainerState.CREATED:
        start.append(index)  # created and never started: the runtime failed at it
        return False
    if pods.is_sidecar(container):
        return _sidecar(
            container,
            index,
            last=last,
            current=current,
            probe=probe,
            actions=actions,
            start=start,
            previously=previously,
        )
    if current.state is ContainerState.RUNNING:
        return False
    if current.state is ContainerState.EXITED and current.exit_code == 0:
        if not last:
            start.append(index + 1)
        return True
    unknown = current.state is ContainerState.UNKNOWN
    restart = restarts_after_kill(pod, container) if unknown else restarts_after_exit(pod, container, current.exit_code)
    if not restart:
        actions.kill_pod = True
        return False
    if unknown:
        actions.kill.append(_kill_unknown_init(current))
    start.append(index)
    return False


def _kill_unknown_init(current: ObservedContainer) -> Kill:
    return Kill(current.id, current.name, 'Init container is in "unknown" state, try killing it before restart')


def _sidecar(
    container: ContainerSpec,
    index: int,
    current: ObservedContainer,
    probe: ProbeResult,
    actions: PodActions,
    start: list[int],
    *,
    last: bool,
    previously: bool,
) -> bool:
    """Decide for one sidecar; returns whether it runs, so that what follows may start."""
    name = container["name"]
    if current.state is not ContainerState.RUNNING:
        if current.state is ContainerState.UNKNOWN:
            actions.kill.append(_kill_unknown_init(current))
        start.append(index)
        return False
    if container.get("startupProbe"):
        begun = probe(Probe.STARTUP, current.id)
        if begun is False:
            message = f"Init container {name} failed startup probe"
            actions.kill.append(Kill(current.id, name, message, KillReason.STARTUP_PROBE))
            start.append(index)
        if not begun:
            return False
    if not last and not previously:
        start.append(index + 1)
    if definition_changed(container, current):
        actions.kill.append(Kill(current.id, name, f"Init container {name} definition changed"))
        start.append(index)
    elif container.get("livenessProbe") and probe(Probe.LIVENESS, current.id) is False:
        message = f"Init container {name} failed liveness probe"
        actions.kill.append(Kill(current.id, name, message, KillReason.LIVENESS_PROBE))
        start.append(index)
    return True
