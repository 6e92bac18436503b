"""A runtime without containers: ``RuntimeService`` and ``ImageService`` in memory, on an injected clock.

The kubelet's own tests run on it, in virtual time. It behaves as containerd does where the contract suite looks
(tests/contract/test_runtime.py). A container "runs" until it is stopped, or until its command would have ended; the
commands that it understands are those of ``ends_after``. Annotations of the pod can say otherwise:
``tiphys.dev/run-seconds`` and ``tiphys.dev/exit-code``.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiphys.kubelet.runtime.service import (
    Condition,
    Container,
    ContainerConfig,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    EventType,
    ExecResult,
    FilesystemUse,
    Image,
    ImageFilesystems,
    MountStatus,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    RuntimeNotFound,
    RuntimeStatus,
    RuntimeTimeout,
    RuntimeUnsupported,
    RuntimeVersion,
    Sandbox,
    SandboxConfig,
    SandboxStats,
)
from tiphys.runtime.clock import Clock

RUN_SECONDS = "tiphys.dev/run-seconds"
EXIT_CODE = "tiphys.dev/exit-code"
_POD_UID = "io.kubernetes.pod.uid"
_SHELL = re.compile(r"(?:sleep\s+([\d.]+)\s*(?:;|&&)?\s*)?(?:exit\s+(\d+))?\s*")
_FOREVER = float("inf")
_KILLED = 137
_TERMINATED = 143


def ends_after(command: Sequence[str]) -> tuple[float, int]:
    """After how many seconds a command ends, and with which status: ``true``, ``false``, ``sleep N``, and
    ``sh -c "sleep N; exit M"``. Anything else runs for ever."""
    words = list(command)
    if words[:1] == ["true"]:
        return 0.0, 0
    if words[:1] == ["false"]:
        return 0.0, 1
    if words[:1] == ["sleep"] and len(words) > 1:
        return float(words[1]), 0
    if words[:2] == ["sh", "-c"] and len(words) > 2 and (found := _SHELL.fullmatch(words[2])):
        return float(found[1] or 0), int(found[2] or 0)
    return _FOREVER, 0


@dataclass(slots=True)
class _Running:
    status: ContainerStatus
    sandbox_id: str
    config: ContainerConfig
    lasts: float
    exit_code: int
    timer: asyncio.TimerHandle | None = None


class SimulatedRuntime:
    """``start_seconds`` is how long a sandbox takes; ``run_command`` plays exec: (container, command) → result."""

    def __init__(
        self,
        clock: Clock,
        *,
        address_prefix: str = "10.244.0",
        start_seconds: float = 0.0,
        missing_images: Sequence[str] = (),
        run_command: Callable[[str, Sequence[str]], ExecResult] | None = None,
    ) -> None:
        self._clock = clock
        self._prefix = address_prefix
        self._start_seconds = start_seconds
        self.missing_images = set(missing_images)
        self.private: dict[str, str] = {}
        """Images that are not on the node, and the password with which they can be pulled."""
        self.pulls: list[str] = []
        self.checkpoints: list[tuple[str, str, int]] | None = []
        """Archives that were written; None: the runtime cannot do that."""
        self._run_command = run_command or _echo
        self._numbers = itertools.count(1)
        self._addresses = itertools.count(2)
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, _Running] = {}
        self._images: dict[str, Image] = {}
        self._listeners: set[asyncio.Queue[RuntimeEvent]] = set()
        self.conditions = [Condition("RuntimeReady", status=True), Condition("NetworkReady", status=True)]
        self.calls: list[tuple[str, str]] = []
        """What was done, for tests: (call, name of the sandbox or container)."""

    def _identity(self, *parts: object) -> str:
        return hashlib.sha256(":".join(map(str, (*parts, next(self._numbers)))).encode()).hexdigest()

    async def version(self) -> RuntimeVersion:
        return RuntimeVersion("simulated", "1.0", "v1")

    async def status(self) -> RuntimeStatus:
        return RuntimeStatus(tuple(self.conditions))

    async def update_pod_cidr(self, pod_cidr: str) -> None:
        self._prefix = pod_cidr.rpartition(".")[0]

    async def close(self) -> None:
        for running in self._containers.values():
            if running.timer is not None:
                running.timer.cancel()

    # Sandboxes.

    async def run_sandbox(self, config: SandboxConfig, handler: str = "") -> str:
        meta = config["metadata"]
        if self._start_seconds:
            await self._clock.sleep(self._start_seconds)
        self.calls.append(("run_sandbox", meta["name"]))
        options = ((config.get("linux") or {}).get("security_context") or {}).get("namespace_options") or {}
        host_network = options.get("network") == 2
        identity = self._identity("sandbox", meta["uid"])
        self._sandboxes[identity] = Sandbox(
            id=identity,
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            attempt=meta.get("attempt", 0),
            ready=True,
            created_at=self._clock.now(),
            labels=dict(config.get("labels") or {}),
            annotations=dict(config.get("annotations") or {}),
            ips=() if host_network else (self._address(),),
            host_network=host_network,
            runtime_handler=handler,
        )
        return identity

    def _address(self) -> str:
        return f"{self._prefix}.{(next(self._addresses) - 2) % 253 + 2}"

    def _sandbox(self, identity: str) -> Sandbox:
        if identity not in self._sandboxes:
            raise RuntimeNotFound(f"an error occurred when try to find sandbox {identity!r}: not found")
        return self._sandboxes[identity]

    async def stop_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id not in self._sandboxes:
            return
        sandbox = self._sandbox(sandbox_id)
        for running in list(self._containers.values()):
            if running.sandbox_id == sandbox_id:
                self._end(running.status.id, _KILLED)
        self.calls.append(("stop_sandbox", sandbox.name))
        self._sandboxes[sandbox_id] = replace(sandbox, ready=False, ips=())

    async def remove_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id not in self._sandboxes:
            return
        await self.stop_sandbox(sandbox_id)
        for identity in [c.status.id for c in self._containers.values() if c.sandbox_id == sandbox_id]:
            del self._containers[identity]
        del self._sandboxes[sandbox_id]

    async def sandbox_status(self, sandbox_id: str) -> Sandbox:
        return self._sandbox(sandbox_id)

    async def list_sandboxes(self, pod_uid: str = "") -> list[Sandbox]:
        return [s for s in self._sandboxes.values() if not pod_uid or s.labels.get(_POD_UID) == pod_uid]

    # Containers.

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox_config: SandboxConfig) -> str:
        sandbox = self._sandbox(sandbox_id)
        meta = config["metadata"]
        image = config["image"]["image"]
        if not sandbox.ready:
            raise RuntimeFailure(f"failed to create container: sandbox {sandbox_id} is not running")
        identity = self._identity("container", sandbox.uid, meta["name"])
        lasts, code = ends_after([*(config.get("command") or ()), *(config.get("args") or ())])
        lasts = float(sandbox.annotations.get(RUN_SECONDS, lasts))
        code = int(sandbox.annotations.get(EXIT_CODE, code))
        log_directory, log_path = sandbox_config.get("log_directory"), config.get("log_path")
        status = ContainerStatus(
            id=identity,
            name=meta["name"],
            attempt=meta.get("attempt", 0),
            state=ContainerState.CREATED,
            created_at=self._clock.now(),
            started_at=0.0,
            finished_at=0.0,
            exit_code=0,
            image=config["image"].get("user_specified_image") or image,
            image_ref=image,
            labels=dict(config.get("labels") or {}),
            annotations=dict(config.get("annotations") or {}),
            mounts=tuple(
                MountStatus(m["container_path"], m["host_path"], bool(m.get("readonly")))
                for m in config.get("mounts") or ()
            ),
            log_path=f"{log_directory}/{log_path}" if log_directory and log_path else "",
            resources=dict((config.get("linux") or {}).get("resources") or {}),
        )
        self._containers[identity] = _Running(status, sandbox_id, config, lasts, code)
        self.calls.append(("create_container", meta["name"]))
        return identity

    def _container(self, identity: str) -> _Running:
        if identity not in self._containers:
            raise RuntimeNotFound(f"an error occurred when try to find container {identity!r}: not found")
        return self._containers[identity]

    async def start_container(self, container_id: str) -> None:
        running = self._container(container_id)
        if running.status.state is not ContainerState.CREATED:
            raise RuntimeFailure(f"container is in {running.status.state.value} state")
        running.status = replace(running.status, state=ContainerState.RUNNING, started_at=self._clock.now())
        self.calls.append(("start_container", running.status.name))
        if running.lasts != _FOREVER:
            loop = asyncio.get_running_loop()
            running.timer = loop.call_later(running.lasts, self._end, container_id, running.exit_code)

    def _end(self, container_id: str, exit_code: int) -> None:
        running = self._containers.get(container_id)
        if running is None or running.status.state is not ContainerState.RUNNING:
            return
        if running.timer is not None:
            running.timer.cancel()
        running.status = replace(
            running.status,
            state=ContainerState.EXITED,
            finished_at=self._clock.now(),
            exit_code=exit_code,
            reason="Completed" if exit_code == 0 else "Error",
        )
        for queue in self._listeners:
            queue.put_nowait(RuntimeEvent(container_id, EventType.STOPPED))

    async def stop_container(self, container_id: str, grace: int) -> None:
        """A simulated process ends at the signal, at once."""
        if container_id in self._containers:
            self.calls.append(("stop_container", self._containers[container_id].status.name))
            self._end(container_id, _TERMINATED if grace > 0 else _KILLED)

    async def remove_container(self, container_id: str) -> None:
        if container_id in self._containers:
            self._end(container_id, _KILLED)
            del self._containers[container_id]

    async def list_containers(self, pod_uid: str = "") -> list[Container]:
        return [
            Container(
                id=c.status.id,
                sandbox_id=c.sandbox_id,
                name=c.status.name,
                attempt=c.status.attempt,
                state=c.status.state,
                created_at=c.status.created_at,
                image=c.status.image,
                image_ref=c.status.image_ref,
                labels=c.status.labels,
                annotations=c.status.annotations,
            )
            for c in self._containers.values()
            if not pod_uid or c.status.labels.get(_POD_UID) == pod_uid
        ]

    async def container_status(self, container_id: str, *, verbose: bool = False) -> ContainerStatus:
        return self._container(container_id).status

    def config_of(self, container_id: str) -> ContainerConfig:
        """The configuration that a container was created with, for tests."""
        return self._container(container_id).config

    async def update_container_resources(self, container_id: str, resources: Resources) -> None:
        running = self._container(container_id)
        linux: dict[str, Any] = running.config.setdefault("linux", {})
        linux["resources"] = {**(linux.get("resources") or {}), **resources}
        running.status = replace(running.status, resources=linux["resources"])

    async def reopen_container_log(self, container_id: str) -> None:
        self._container(container_id)

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        if self.checkpoints is None:
            raise RuntimeUnsupported("method CheckpointContainer not implemented")
        self._container(container_id)
        self.checkpoints.append((container_id, location, timeout))

    # Running something in a container.

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float = 0) -> ExecResult:
        running = self._container(container_id)
        if running.status.state is not ContainerState.RUNNING:
            raise RuntimeFailure("failed to exec in container: container is not running")
        seconds, code = ends_after(command)
        if seconds == _FOREVER:
            return self._run_command(running.status.name, command)
        if timeout and seconds > timeout:
            await self._clock.sleep(timeout)
            raise RuntimeTimeout(
                f"failed to exec in container: timeout {timeout:g}s exceeded: context deadline exceeded"
            )
        await self._clock.sleep(seconds)
        return ExecResult(b"", b"", code)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        raise RuntimeUnsupported("simulated containers have no streams")

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        raise RuntimeUnsupported("simulated containers have no streams")

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        raise RuntimeUnsupported("simulated pods have no network")

    # Figures and events.

    async def list_container_stats(self) -> list[ContainerStats]:
        now = self._clock.now()
        return [
            ContainerStats(c.status.id, c.status.name, now, 0, 0, 0, 0, 0, 0, 0, 0, 0, c.status.labels)
            for c in self._containers.values()
            if c.status.state is ContainerState.RUNNING
        ]

    async def list_sandbox_stats(self) -> list[SandboxStats]:
        return [SandboxStats(s.id, labels=s.labels) for s in self._sandboxes.values() if s.ready]

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        queue: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    # Images: every name is there, but for those that are missing.

    async def list_images(self) -> list[Image]:
        return list(self._images.values())

    async def image_status(self, image: str) -> Image | None:
        unknown = image in self.missing_images or (image in self.private and image not in self._images)
        return None if unknown else self._image(image)

    def _image(self, image: str) -> Image:
        if image not in self._images:
            digest = "sha256:" + hashlib.sha256(image.encode()).hexdigest()
            self._images[image] = Image(digest, (image,), (), 1 << 20)
        return self._images[image]

    async def pull_image(
        self, image: str, auth: Mapping[str, str] | None = None, sandbox_config: SandboxConfig | None = None
    ) -> str:
        self.pulls.append(image)
        if image in self.private and (auth or {}).get("password") != self.private[image]:
            raise RuntimeFailure(f'failed to pull and unpack image "{image}": 401 Unauthorized')
        if image in self.missing_images:
            raise RuntimeNotFound(f'failed to pull and unpack image "{image}": {image}: not found')
        return self._image(image).id

    async def remove_image(self, image: str) -> None:
        for name in [name for name, found in self._images.items() if image in (name, found.id)]:
            del self._images[name]

    async def image_filesystems(self) -> ImageFilesystems:
        return ImageFilesystems((FilesystemUse("/", 0, 0),))


def _echo(container: str, command: Sequence[str]) -> ExecResult:
    """Plays ``echo``; every other command succeeds without a word."""
    if list(command[:1]) == ["echo"]:
        return ExecResult((" ".join(command[1:]) + "\n").encode(), b"", 0)
    return ExecResult(b"", b"", 0)
