"""What the runtime says about a pod: its sandboxes and containers, newest first. The other side of the pod's spec.

Source: https://github.com/kubernetes/cri-api
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tiphys.kubelet import labels
from tiphys.kubelet.runtime.service import ContainerState, ContainerStatus, Resources, Sandbox


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """One run of one container."""

    id: str
    name: str
    state: ContainerState
    created_at: float
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    image: str = ""
    image_ref: str = ""
    hash: str = ""
    restart_count: int = 0
    reason: str = ""
    message: str = ""
    sandbox_id: str = ""
    log_path: str = ""
    user: tuple[int, int, tuple[int, ...]] | None = None
    resources: Resources | None = None
    stop_signal: int = 0

    @property
    def running(self) -> bool:
        return self.state is ContainerState.RUNNING


@dataclass(frozen=True, slots=True)
class PodStatus:
    """All runs of all containers of one pod, and its sandboxes, newest first."""

    uid: str
    name: str = ""
    namespace: str = ""
    ips: tuple[str, ...] = ()
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[ObservedContainer, ...] = ()

    def find(self, name: str) -> ObservedContainer | None:
        """The newest run of a container."""
        return next((c for c in self.containers if c.name == name), None)

    @property
    def running(self) -> list[ObservedContainer]:
        return [c for c in self.containers if c.state in (ContainerState.RUNNING, ContainerState.UNKNOWN)]

    @property
    def ready_sandboxes(self) -> list[Sandbox]:
        return [s for s in self.sandboxes if s.ready]

    @property
    def idle(self) -> bool:
        """Nothing of the pod runs any more."""
        return not self.running and not self.ready_sandboxes


def observed_container(
    status: ContainerStatus, sandbox_id: str = "", termination_message: str = ""
) -> ObservedContainer:
    """A container as the runtime describes it; ``termination_message`` is what the container left behind."""
    message = ": ".join(part for part in (status.message, termination_message) if part)
    exited = status.state is ContainerState.EXITED
    return ObservedContainer(
        id=status.id,
        name=status.labels.get(labels.CONTAINER_NAME, status.name),
        state=status.state,
        created_at=status.created_at,
        started_at=0.0 if status.state is ContainerState.CREATED else status.started_at,
        finished_at=status.finished_at if exited else 0.0,
        exit_code=status.exit_code if exited else 0,
        image=status.image,
        image_ref=status.image_ref,
        hash=status.annotations.get(labels.CONTAINER_HASH, ""),
        restart_count=labels.restart_count(status.annotations),
        reason=status.reason if exited else "",
        message=message if exited else "",
        sandbox_id=sandbox_id,
        log_path=status.log_path,
        user=status.user,
        resources=status.resources,
        stop_signal=status.stop_signal,
    )


def newest_first(containers: Iterable[ObservedContainer]) -> tuple[ObservedContainer, ...]:
    return tuple(sorted(containers, key=lambda c: (c.created_at, c.restart_count), reverse=True))
