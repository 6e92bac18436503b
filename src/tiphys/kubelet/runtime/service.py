"""``RuntimeService`` and ``ImageService``: the runtime's side of a node, thin and typed.

What is requested (a sandbox, a container) is a dict in the shape of the protocol's ``PodSandboxConfig`` and
``ContainerConfig`` (see cri.proto); what is observed comes back as the small classes below. Times are seconds since the
Unix epoch; 0.0 means "not yet".

Source: https://github.com/kubernetes/cri-api, runtime.v1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

SandboxConfig = dict[str, Any]
ContainerConfig = dict[str, Any]
Resources = dict[str, Any]
"""The shape of ``LinuxContainerResources``."""


class RuntimeFailure(Exception):
    """The runtime did not do what was asked. ``str()`` is the runtime's own message; ``raw`` has the gRPC code too."""

    code = "Unknown"

    @property
    def raw(self) -> str:
        """The error as gRPC's Go library prints it, which is what events show."""
        return f"rpc error: code = {self.code} desc = {self}"


class RuntimeUnavailable(RuntimeFailure):
    """The runtime cannot be reached, or disconnected."""

    code = "Unavailable"


class RuntimeNotFound(RuntimeFailure):
    """There is no such sandbox, container or image."""

    code = "NotFound"


class RuntimeTimeout(RuntimeFailure):
    """The time given for the call ran out."""

    code = "DeadlineExceeded"


class RuntimeUnsupported(RuntimeFailure):
    """The runtime does not know this call."""

    code = "Unimplemented"


class ContainerState(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RuntimeVersion:
    name: str
    """``containerd``, the scheme of a pod's containerID."""
    version: str
    api_version: str


@dataclass(frozen=True, slots=True)
class Condition:
    """RuntimeReady or NetworkReady."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """How the runtime is. ``recursive_read_only`` are its handlers ("" is the default) that can mount so."""

    conditions: tuple[Condition, ...]
    recursive_read_only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's sandbox. ``ips`` is known only from ``sandbox_status``."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: float
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    host_network: bool = False
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """One line of the list of containers."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: float
    image: str = ""
    image_ref: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MountStatus:
    container_path: str
    host_path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """All there is to know of a container."""

    id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: float
    started_at: float
    finished_at: float
    exit_code: int
    image: str
    image_ref: str
    """The digested reference, ``name@sha256:…``: the API's imageID."""
    image_id: str = ""
    reason: str = ""
    message: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[MountStatus, ...] = ()
    log_path: str = ""
    user: tuple[int, int, tuple[int, ...]] | None = None
    """User id, group id and further groups of the first process, if the runtime reports them."""
    stop_signal: int = 0
    resources: Resources | None = None
    pid: int = 0
    """Process id on the host, if it was requested."""


class EventType(Enum):
    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something happened to a container or sandbox; ``container_id`` may be either's."""

    container_id: str
    type: EventType


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """Use of one container. ``cpu_ns`` is nanoseconds of processor time since it started; the rest is bytes."""

    id: str
    name: str
    timestamp: float
    cpu_ns: int
    cpu_nano_cores: int
    memory_working_set: int
    memory_usage: int
    memory_rss: int
    page_faults: int
    major_page_faults: int
    filesystem_used: int
    filesystem_inodes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    swap_usage: int = 0
    swap_available: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceStats:
    """Bytes and errors in and out."""

    name: str = "eth0"
    rx_bytes: int = 0
    rx_errors: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0


@dataclass(frozen=True, slots=True)
class SandboxStats:
    """Use of one pod's network, the default interface first, and its processes."""

    id: str
    interfaces: tuple[InterfaceStats, ...] = (InterfaceStats(),)
    processes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    uid: int | None = None
    username: str = ""
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class FilesystemUse:
    mountpoint: str
    used_bytes: int
    inodes_used: int


@dataclass(frozen=True, slots=True)
class ImageFilesystems:
    """Where images are kept, and what containers write; without the second both are in one place."""

    images: tuple[FilesystemUse, ...] = ()
    containers: tuple[FilesystemUse, ...] = ()


class RuntimeService(Protocol):
    """Sandboxes and containers. Every call may raise ``RuntimeFailure`` or one of its kinds."""

    async def version(self) -> RuntimeVersion: ...

    async def status(self) -> RuntimeStatus: ...

    async def update_pod_cidr(self, pod_cidr: str) -> None: ...

    async def run_sandbox(self, config: SandboxConfig, handler: str = "") -> str:
        """Create and start a sandbox with its network; gives its id."""
        ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill its containers and free its network. Repeats are no error, nor is a sandbox that is gone."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Stop it and remove what is left of it. A sandbox that is gone is no error."""
        ...

    async def sandbox_status(self, sandbox_id: str) -> Sandbox: ...

    async def list_sandboxes(self, pod_uid: str = "") -> list[Sandbox]: ...

    async def create_container(
        self, sandbox_id: str, config: ContainerConfig, sandbox_config: SandboxConfig
    ) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, grace: int) -> None:
        """Signal, wait ``grace`` seconds, kill; returns when it has ended. Repeats are no error."""
        ...

    async def remove_container(self, container_id: str) -> None: ...

    async def list_containers(self, pod_uid: str = "") -> list[Container]: ...

    async def container_status(self, container_id: str, *, verbose: bool = False) -> ContainerStatus: ...

    async def update_container_resources(self, container_id: str, resources: Resources) -> None: ...

    async def reopen_container_log(self, container_id: str) -> None: ...

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        """Write what a running container is to a tar archive, so that it can be analysed or go on elsewhere.

        ``timeout`` in seconds, at least that of all calls.
        """
        ...

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float = 0) -> ExecResult:
        """Run a command to its end. Raises ``RuntimeTimeout`` after ``timeout`` seconds (0: no limit)."""
        ...

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str: ...

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str: ...

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str: ...

    async def list_container_stats(self) -> list[ContainerStats]: ...

    async def list_sandbox_stats(self) -> list[SandboxStats]: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """Changes as they happen, for ever. Raises ``RuntimeUnsupported`` if the runtime sends no events."""
        ...

    async def close(self) -> None: ...


class ImageService(Protocol):
    """The node's images."""

    async def list_images(self) -> list[Image]: ...

    async def image_status(self, image: str) -> Image | None:
        """The image, or None if it is not on the node."""
        ...

    async def pull_image(
        self, image: str, auth: Mapping[str, str] | None = None, sandbox_config: SandboxConfig | None = None
    ) -> str:
        """Pull; gives the image's reference. ``auth`` has the shape of ``AuthConfig``."""
        ...

    async def remove_image(self, image: str) -> None: ...

    async def image_filesystems(self) -> ImageFilesystems: ...
