"""CRI v1 over gRPC: containerd, CRI-O, or any other runtime that listens on a Unix socket.

Runtimes older than the protocol's container events (containerd 1.6) are followed by containerd's own event stream, so
that the end of a container is seen at once and not at the next list.

Source: https://kubernetes.io/docs/concepts/architecture/cri/
"""

from __future__ import annotations

import contextlib
import importlib.resources
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tiphys.kubelet.figures import RuntimeOperations
from tiphys.kubelet.runtime import announce, service
from tiphys.kubelet.runtime.containerd_events import containerd_events
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure
from tiphys.wire.protobuf import Schema

if TYPE_CHECKING:
    import grpc.aio

log = logging.getLogger(__name__)

_NS = 1e-9
_STATES = {
    0: ContainerState.CREATED,
    1: ContainerState.RUNNING,
    2: ContainerState.EXITED,
    3: ContainerState.UNKNOWN,
}
_EVENTS = {
    0: service.EventType.CREATED,
    1: service.EventType.STARTED,
    2: service.EventType.STOPPED,
    3: service.EventType.DELETED,
}
_NODE_NAMESPACE = 2
RUNTIME_TIMEOUT = 120.0
_PULL_TIMEOUT = 3600.0
POD_UID_LABEL = "io.kubernetes.pod.uid"
_SANDBOX = re.compile("PodSandbox")
_WORD = re.compile("(?<=[a-z])(?=[A-Z])")
_OPERATIONS = {"UpdateContainerResources": "update_container"}
"""Upstream's names of calls in its metrics, where they are not the method's own."""


@cache
def schema() -> Schema:
    text = importlib.resources.files("tiphys.kubelet.runtime").joinpath("cri.proto").read_text()
    return Schema(text, "tiphys/cri.proto")


@cache
def operation_name(method: str) -> str:
    """``run_podsandbox`` for ``RunPodSandbox``: a method's name in the kubelet's metrics."""
    return _OPERATIONS.get(method) or _WORD.sub("_", _SANDBOX.sub("Podsandbox", method)).lower()


class CRIClient:
    """``RuntimeService`` and ``ImageService`` of the runtime behind ``socket``. Make it inside the event loop."""

    def __init__(self, socket: str, timeout: float = RUNTIME_TIMEOUT) -> None:
        """``timeout``: seconds that an answer may take, beside what is waited for."""
        import grpc.aio

        self._timeout = timeout

        options = [("grpc.max_receive_message_length", 16 << 20), ("grpc.default_authority", "localhost")]
        self._grpc = grpc
        self._channel: grpc.aio.Channel = grpc.aio.insecure_channel(f"unix://{socket}", options=options)
        self._calls: dict[str, Callable[..., Any]] = {}
        self._requests: dict[str, Any] = {}
        self.operations = RuntimeOperations()
        for name in ("RuntimeService", "ImageService"):
            for method in schema().methods(name).values():
                kind = self._channel.unary_stream if method.response_stream else self._channel.unary_unary
                self._requests[method.name] = method.request
                self._calls[method.name] = kind(
                    method.path,
                    request_serializer=method.request.SerializeToString,
                    response_deserializer=method.response.FromString,
                )

    async def _call(self, method: str, timeout: float | None = None, /, **fields: Any) -> Any:
        limit = self._timeout if timeout is None else timeout
        try:
            with self.operations.call(operation_name(method)):
                return await self._calls[method](self._requests[method](**fields), timeout=limit)
        except self._grpc.aio.AioRpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.aio.AioRpcError) -> RuntimeFailure:
        code, message = error.code(), error.details() or ""
        kinds = {
            self._grpc.StatusCode.NOT_FOUND: service.RuntimeNotFound,
            self._grpc.StatusCode.UNAVAILABLE: service.RuntimeUnavailable,
            self._grpc.StatusCode.DEADLINE_EXCEEDED: service.RuntimeTimeout,
            self._grpc.StatusCode.UNIMPLEMENTED: service.RuntimeUnsupported,
        }
        return kinds.get(code, RuntimeFailure)(message)

    async def close(self) -> None:
        await self._channel.close()

    # The runtime itself.

    async def version(self) -> service.RuntimeVersion:
        answer = await self._call("Version", version="v1")
        return service.RuntimeVersion(answer.runtime_name, answer.runtime_version, answer.runtime_api_version)

    async def status(self) -> service.RuntimeStatus:
        answer = await self._call("Status")
        conditions = (service.Condition(c.type, c.status, c.reason, c.message) for c in answer.status.conditions)
        recursive = (h.name for h in answer.runtime_handlers if h.features.recursive_read_only_mounts)
        return service.RuntimeStatus(tuple(conditions), frozenset(recursive))

    async def update_pod_cidr(self, pod_cidr: str) -> None:
        await self._call("UpdateRuntimeConfig", runtime_config={"network_config": {"pod_cidr": pod_cidr}})

    # Sandboxes.

    async def run_sandbox(self, config: service.SandboxConfig, handler: str = "") -> str:
        answer = await self._call("RunPodSandbox", 240.0, config=config, runtime_handler=handler)
        await self._announce(str(answer.pod_sandbox_id))
        return str(answer.pod_sandbox_id)

    async def _announce(self, sandbox_id: str) -> None:
        """Let the neighbours know of the sandbox's address. The sandbox is there whatever comes of it."""
        try:
            answer = await self._call("PodSandboxStatus", pod_sandbox_id=sandbox_id, verbose=True)
        except service.RuntimeFailure as error:
            log.warning("cannot announce the address of sandbox %s: %s", sandbox_id, error)
            return
        if address := answer.status.network.ip:
            await announce.announce(announce.network_namespace(answer.info), [address])

    async def stop_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(service.RuntimeNotFound):  # containerd 1.6 says so
            await self._call("StopPodSandbox", pod_sandbox_id=sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(service.RuntimeNotFound):
            await self._call("RemovePodSandbox", pod_sandbox_id=sandbox_id)

    async def sandbox_status(self, sandbox_id: str) -> service.Sandbox:
        status = (await self._call("PodSandboxStatus", pod_sandbox_id=sandbox_id)).status
        ips = (status.network.ip, *(extra.ip for extra in status.network.additional_ips)) if status.network.ip else ()
        return service.Sandbox(
            **_sandbox_fields(status),
            ips=ips,
            host_network=status.linux.namespaces.options.network == _NODE_NAMESPACE,
        )

    async def list_sandboxes(self, pod_uid: str = "") -> list[service.Sandbox]:
        answer = await self._call("ListPodSandbox", filter=_by_pod(pod_uid))
        return [service.Sandbox(**_sandbox_fields(item)) for item in answer.items]

    # Containers.

    async def create_container(
        self, sandbox_id: str, config: service.ContainerConfig, sandbox_config: service.SandboxConfig
    ) -> str:
        answer = await self._call(
            "CreateContainer", pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config
        )
        return str(answer.container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call("StartContainer", container_id=container_id)

    async def stop_container(self, container_id: str, grace: int) -> None:
        await self._call("StopContainer", self._timeout + grace, container_id=container_id, timeout=grace)

    async def remove_container(self, container_id: str) -> None:
        await self._call("RemoveContainer", container_id=container_id)

    async def list_containers(self, pod_uid: str = "") -> list[service.Container]:
        answer = await self._call("ListContainers", filter=_by_pod(pod_uid))
        return [_container(item) for item in answer.containers]

    async def container_status(self, container_id: str, *, verbose: bool = False) -> service.ContainerStatus:
        answer = await self._call("ContainerStatus", container_id=container_id, verbose=verbose)
        return _container_status(answer.status, _pid(answer.info.get("info", "")) if verbose else 0)

    async def update_container_resources(self, container_id: str, resources: service.Resources) -> None:
        await self._call("UpdateContainerResources", container_id=container_id, linux=resources)

    async def reopen_container_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", container_id=container_id)

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        seconds = max(timeout, int(self._timeout))
        await self._call(
            "CheckpointContainer", float(seconds), container_id=container_id, location=location, timeout=seconds
        )

    # Running something in a container.

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float = 0) -> service.ExecResult:
        limit = _PULL_TIMEOUT if timeout == 0 else self._timeout + timeout
        answer = await self._call(
            "ExecSync", limit, container_id=container_id, cmd=list(command), timeout=-int(-timeout // 1)
        )
        return service.ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        streams = {"tty": tty, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        return str((await self._call("Exec", container_id=container_id, cmd=list(command), **streams)).url)

    async def attach_url(self, container_id: str, *, tty: bool, stdin: bool, stdout: bool, stderr: bool) -> str:
        streams = {"tty": tty, "stdin": stdin, "stdout": stdout, "stderr": stderr}
        return str((await self._call("Attach", container_id=container_id, **streams)).url)

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        return str((await self._call("PortForward", pod_sandbox_id=sandbox_id, port=list(ports))).url)

    # Figures and events.

    async def list_container_stats(self) -> list[service.ContainerStats]:
        async def running() -> list[str]:
            return [c.id for c in await self.list_containers() if c.state is ContainerState.RUNNING]

        return [_container_stats(item) for item in await self._measure("ListContainerStats", running)]

    async def list_sandbox_stats(self) -> list[service.SandboxStats]:
        async def ready() -> list[str]:
            return [sandbox.id for sandbox in await self.list_sandboxes() if sandbox.ready]

        return [_sandbox_stats(item) for item in await self._measure("ListPodSandboxStats", ready)]

    async def _measure(self, method: str, ids: Callable[[], Awaitable[list[str]]]) -> list[Any]:
        """All figures at once, or one by one: containerd fails the list if one of its members starts or ends."""
        try:
            return list((await self._call(method, filter={})).stats)
        except RuntimeFailure as error:
            log.info("%s for all of them: %s", method, error)
        measured = []
        for member in await ids():
            try:
                measured += (await self._call(method, filter={"id": member})).stats
            except RuntimeFailure as error:
                log.info("%s for %s: %s", method, member, error)
        return measured

    async def events(self) -> AsyncIterator[service.RuntimeEvent]:
        """The runtime's events, from CRI or else from containerd. Raises ``RuntimeFailure``."""
        stream = self._calls["GetContainerEvents"](self._requests["GetContainerEvents"]())
        try:
            async for event in stream:
                yield service.RuntimeEvent(event.container_id, _EVENTS[event.container_event_type])
            return
        except self._grpc.aio.AioRpcError as error:
            failure = self._failure(error)
            if not isinstance(failure, service.RuntimeUnsupported):
                raise failure from error
        try:
            async for event in containerd_events(self._channel):
                yield event
        except self._grpc.aio.AioRpcError as error:
            raise self._failure(error) from error

    # Images.

    async def list_images(self) -> list[service.Image]:
        return [_image(item) for item in (await self._call("ListImages")).images]

    async def image_status(self, image: str) -> service.Image | None:
        answer = await self._call("ImageStatus", image={"image": image})
        return _image(answer.image) if answer.image.id else None

    async def pull_image(
        self, image: str, auth: Mapping[str, str] | None = None, sandbox_config: service.SandboxConfig | None = None
    ) -> str:
        asked: dict[str, Any] = {"image": {"image": image}}
        if auth:
            asked["auth"] = dict(auth)
        if sandbox_config:
            asked["sandbox_config"] = sandbox_config
        return str((await self._call("PullImage", _PULL_TIMEOUT, **asked)).image_ref)

    async def remove_image(self, image: str) -> None:
        await self._call("RemoveImage", image={"image": image})

    async def image_filesystems(self) -> service.ImageFilesystems:
        answer = await self._call("ImageFsInfo")
        images, containers = (
            tuple(service.FilesystemUse(fs.fs_id.mountpoint, fs.used_bytes.value, fs.inodes_used.value) for fs in each)
            for each in (answer.image_filesystems, answer.container_filesystems)
        )
        return service.ImageFilesystems(images, containers)


def _by_pod(pod_uid: str) -> dict[str, Any]:
    return {"label_selector": {POD_UID_LABEL: pod_uid}} if pod_uid else {}


def _sandbox_fields(sandbox: Any) -> dict[str, Any]:
    meta = sandbox.metadata
    return {
        "id": sandbox.id,
        "name": meta.name,
        "namespace": meta.namespace,
        "uid": meta.uid,
        "attempt": meta.attempt,
        "ready": sandbox.state == 0,
        "created_at": sandbox.created_at * _NS,
        "labels": dict(sandbox.labels),
        "annotations": dict(sandbox.annotations),
        "runtime_handler": sandbox.runtime_handler,
    }


def _container(container: Any) -> service.Container:
    return service.Container(
        id=container.id,
        sandbox_id=container.pod_sandbox_id,
        name=container.metadata.name,
        attempt=container.metadata.attempt,
        state=_STATES.get(container.state, ContainerState.UNKNOWN),
        created_at=container.created_at * _NS,
        image=container.image.image,
        image_ref=container.image_ref,
        labels=dict(container.labels),
        annotations=dict(container.annotations),
    )


def _container_status(status: Any, pid: int) -> service.ContainerStatus:
    """The status of a container from the CRI message; times in seconds since the epoch."""
    user = status.user.linux if status.HasField("user") and status.user.HasField("linux") else None
    return service.ContainerStatus(
        id=status.id,
        name=status.metadata.name,
        attempt=status.metadata.attempt,
        state=_STATES.get(status.state, ContainerState.UNKNOWN),
        created_at=status.created_at * _NS,
        started_at=max(status.started_at, 0) * _NS,
        finished_at=max(status.finished_at, 0) * _NS,
        exit_code=status.exit_code,
        image=status.image.image,
        image_ref=status.image_ref,
        image_id=status.image_id,
        reason=status.reason,
        message=status.message,
        labels=dict(status.labels),
        annotations=dict(status.annotations),
        mounts=tuple(service.MountStatus(m.container_path, m.host_path, m.readonly) for m in status.mounts),
        log_path=status.log_path,
        user=(user.uid, user.gid, tuple(user.supplemental_groups)) if user else None,
        stop_signal=status.stop_signal,
        resources=_resources(status),
        pid=pid,
    )


def _resources(status: Any) -> service.Resources | None:
    if not (status.HasField("resources") and status.resources.HasField("linux")):
        return None
    linux = status.resources.linux
    names = ("cpu_period", "cpu_quota", "cpu_shares", "memory_limit_in_bytes", "oom_score_adj")
    return {name: getattr(linux, name) for name in names}


def _pid(info: str) -> int:
    import json

    return int(json.loads(info).get("pid", 0)) if info else 0


def _container_stats(stats: Any) -> service.ContainerStats:
    cpu, memory, layer = stats.cpu, stats.memory, stats.writable_layer
    return service.ContainerStats(
        id=stats.attributes.id,
        name=stats.attributes.metadata.name,
        timestamp=max(cpu.timestamp, memory.timestamp) * _NS,
        cpu_ns=cpu.usage_core_nano_seconds.value,
        cpu_nano_cores=cpu.usage_nano_cores.value,
        memory_working_set=memory.working_set_bytes.value,
        memory_usage=memory.usage_bytes.value,
        memory_rss=memory.rss_bytes.value,
        page_faults=memory.page_faults.value,
        major_page_faults=memory.major_page_faults.value,
        filesystem_used=layer.used_bytes.value,
        filesystem_inodes=layer.inodes_used.value,
        labels=dict(stats.attributes.labels),
        swap_usage=stats.swap.swap_usage_bytes.value,
        swap_available=stats.swap.swap_available_bytes.value,
    )


def _sandbox_stats(stats: Any) -> service.SandboxStats:
    network = stats.linux.network
    return service.SandboxStats(
        id=stats.attributes.id,
        interfaces=tuple(_interface(one) for one in (network.default_interface, *network.interfaces)),
        processes=stats.linux.process.process_count.value,
        labels=dict(stats.attributes.labels),
    )


def _interface(interface: Any) -> service.InterfaceStats:
    return service.InterfaceStats(
        name=interface.name or "eth0",
        rx_bytes=interface.rx_bytes.value,
        rx_errors=interface.rx_errors.value,
        tx_bytes=interface.tx_bytes.value,
        tx_errors=interface.tx_errors.value,
    )


def _image(image: Any) -> service.Image:
    return service.Image(
        id=image.id,
        tags=tuple(image.repo_tags),
        digests=tuple(image.repo_digests),
        size=image.size,
        uid=image.uid.value if image.HasField("uid") else None,
        username=image.username,
        pinned=image.pinned,
    )
