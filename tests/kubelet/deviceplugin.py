"""A device plugin for tests: speaks the protocol over a real socket, and does what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from tiphys.kubelet.devices.messages import deviceplugin
from tiphys.wire.grpc.caller import Caller
from tiphys.wire.grpc.server import GrpcServer, Rpc
from tiphys.wire.grpc.stream import GrpcError


def message(name: str, **fields: Any) -> Any:
    return deviceplugin().message(name)(**fields)


class Plugin:
    """``devices``: health by id; ``nodes``: NUMA node by id."""

    def __init__(
        self, resource: str, devices: Iterable[str], *, pre_start: bool = False, prefers: bool = False
    ) -> None:
        self.resource = resource
        self.devices = dict.fromkeys(devices, "Healthy")
        self.nodes: dict[str, int] = {}
        self.options = {"pre_start_required": pre_start, "get_preferred_allocation_available": prefers}
        self.cdi = False
        """Whether what it allocates has CDI names."""
        self.preferred: list[str] = []
        self.offered: list[tuple[list[str], list[str], int]] = []
        self.allocated: list[list[str]] = []
        self.started: list[list[str]] = []
        self.refuses = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Condition()
        self._version = 0
        self._server: GrpcServer | None = None

    async def serve(self, folder: Path) -> None:
        rpcs = {}
        for name, about in deviceplugin().methods("DevicePlugin").items():
            work = getattr(self, name)
            rpcs[about.path] = Rpc(
                about.request.FromString,
                about.response.SerializeToString,
                work,
                response_stream=about.response_stream,
            )
        self._server = GrpcServer(rpcs, status_of=lambda error: None)
        path = folder / self.socket
        path.unlink(missing_ok=True)
        await self._server.listen_unix(str(path))

    @property
    def socket(self) -> str:
        return f"{self.resource.replace('/', '-')}.sock"

    async def register(self, folder: Path, *, version: str = "v1beta1", resource: str = "") -> None:
        """Raises ``GrpcError`` if the kubelet does not want it."""
        caller = Caller(str(folder / "kubelet.sock"), deviceplugin(), patient=True)
        try:
            name = resource or self.resource
            await caller.call("Register", 10.0, version=version, endpoint=self.socket, resource_name=name)
        finally:
            await caller.close()

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def change(self, **health: str) -> None:
        self.devices |= health
        async with self._news:
            self._version += 1
            self._news.notify_all()

    # The protocol.

    async def GetDevicePluginOptions(self, _: Any) -> Any:
        return message("DevicePluginOptions", **self.options)

    async def ListAndWatch(self, _: Any) -> AsyncIterator[Any]:
        while True:
            seen = self._version
            devices = []
            for identity, health in self.devices.items():
                nodes = [{"ID": self.nodes[identity]}] if identity in self.nodes else []
                devices.append({"ID": identity, "health": health, "topology": {"nodes": nodes} if nodes else None})
            yield message("ListAndWatchResponse", devices=devices)
            async with self._news:
                await self._news.wait_for(lambda: self._version != seen)  # noqa: B023

    async def GetPreferredAllocation(self, request: Any) -> Any:
        [asked] = request.container_requests
        self.offered.append(
            (list(asked.available_deviceIDs), list(asked.must_include_deviceIDs), asked.allocation_size)
        )
        return message("PreferredAllocationResponse", container_responses=[{"deviceIDs": self.preferred}])

    async def Allocate(self, request: Any) -> Any:
        [asked] = request.container_requests
        devices = list(asked.devices_ids)
        await self.gate.wait()
        if self.refuses:
            raise GrpcError(2, self.refuses)
        self.allocated.append(devices)
        answer = {
            "envs": {"DEVICES": ",".join(devices)},
            "mounts": [{"container_path": "/lib/device", "host_path": "/usr/lib", "read_only": True}],
            "devices": [
                {"container_path": f"/dev/{name}", "host_path": "/dev/zero", "permissions": "rw"} for name in devices
            ],
            "annotations": {"example.com/devices": " ".join(devices)},
            "cdi_devices": [{"name": f"{self.resource}={name}"} for name in devices if self.cdi],
        }
        return message("AllocateResponse", container_responses=[answer])

    async def PreStartContainer(self, request: Any) -> Any:
        self.started.append(list(request.devices_ids))
        return message("PreStartContainerResponse")


@contextlib.asynccontextmanager
async def plugged(plugin: Plugin, folder: Path) -> AsyncIterator[Plugin]:
    """The plugin, served and registered."""
    await plugin.serve(folder)
    try:
        await plugin.register(folder)
        yield plugin
    finally:
        await plugin.close()
