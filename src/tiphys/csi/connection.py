"""How controllers call a CSI driver: over its socket, or in the same process if the driver is ours.

Both give the same answers and raise the same ``GrpcError``.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from tiphys.api.csi.messages import csi, rpc_capabilities
from tiphys.runtime.clock import Clock, backoff
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.server import Rpc
from tiphys.wire.grpc.stream import GrpcError

_UNDECIDED = (
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.UNAVAILABLE,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
)


class Connection(Protocol):
    """A driver's socket. ``timeout`` in seconds."""

    async def call(self, method: str, timeout: float, /, **fields: Any) -> Any:
        """Raises ``GrpcError``."""
        ...


Work = Callable[[Any], Awaitable[Any]]


def rpcs(services: Iterable[object]) -> dict[str, Rpc]:
    """What is served by path: each method of the protocol that one of the services has."""
    served = {}
    for service in services:
        for name, work in inspect.getmembers(service, inspect.iscoroutinefunction):
            for about in (csi().methods(each).get(name) for each in csi().services()):
                if about is not None:
                    served[about.path] = Rpc(about.request.FromString, about.response.SerializeToString, work)
    return served


class InProcess:
    """A driver in this process."""

    def __init__(self, services: Iterable[object]) -> None:
        self._services = tuple(services)

    async def call(self, method: str, timeout: float, /, **fields: Any) -> Any:
        about = next(method_type for each in csi().services() if (method_type := csi().methods(each).get(method)))
        work: Work | None = next((getattr(each, method) for each in self._services if hasattr(each, method)), None)
        if work is None:
            raise GrpcError(StatusCode.UNIMPLEMENTED, f"unknown method {about.path}")
        return await work(about.request(**fields))


def is_final(error: GrpcError) -> bool:
    """Whether the driver is certainly not at work on the call any more."""
    return error.code not in _UNDECIDED


class DriverFacts:
    """What a driver is called and can do; asked for once."""

    def __init__(self, name: str, plugin: frozenset[str], controller: frozenset[str]) -> None:
        self.name = name
        self.plugin = plugin
        self.controller = controller

    @property
    def has_topology(self) -> bool:
        return "VOLUME_ACCESSIBILITY_CONSTRAINTS" in self.plugin


async def read_facts(connection: Connection, clock: Clock) -> DriverFacts:
    """Wait until the driver is ready, however long it takes to start, and ask it what it is."""
    for delay in backoff(0.2, 2, 10):
        try:
            answer = await connection.call("Probe", 10.0)
            if not answer.HasField("ready") or answer.ready.value:
                break
        except GrpcError as error:
            if error.code not in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED):
                raise
        await clock.sleep(delay)
    name = (await connection.call("GetPluginInfo", 10.0)).name
    plugin = _plugin_capabilities(await connection.call("GetPluginCapabilities", 10.0))
    controller: frozenset[str] = frozenset()
    if "CONTROLLER_SERVICE" in plugin:
        answer = await connection.call("ControllerGetCapabilities", 10.0)
        controller = rpc_capabilities(answer, "ControllerServiceCapability")
    return DriverFacts(name, plugin, controller)


def _plugin_capabilities(answer: Any) -> frozenset[str]:
    names = {number: name for name, number in csi().enum("PluginCapability.Service.Type").items()}
    services = (each.service.type for each in answer.capabilities if each.WhichOneof("type") == "service")
    return frozenset(names[number] for number in services if number in names)
