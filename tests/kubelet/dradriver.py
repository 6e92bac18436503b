"""A driver of dynamic resources for tests: registers with the kubelet and prepares claims, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tiphys.api.csi.messages import registration
from tiphys.kubelet.dra.messages import SERVICES, dra, dra_health
from tiphys.wire.grpc.server import GrpcServer, Rpc

NAME = "dra.example.com"


class DraDriver:
    """Each claim gets one device, whose CDI name says which claim it is for. ``cdi``: where CDI files are written."""

    def __init__(self, service: str = "v1.DRAPlugin", cdi: Path | None = None) -> None:
        self.service = service
        self.cdi = cdi
        self.prepared: list[str] = []
        self.unprepared: list[str] = []
        self.requests = ["r"]
        """The requests that the devices are said to be for; none: for all of their claim."""
        self.refuses = ""
        self.health: list[Any] | None = None
        """What is said of devices, as ``say`` puts it; None: the driver does not speak of health."""
        self._news = asyncio.Condition()
        self.registered: list[str] = []
        """What the kubelet said about the registration; empty if all is well."""

    def _message(self, name: str, **fields: Any) -> Any:
        return dra(SERVICES.get(self.service, "v1")).message(name)(**fields)

    async def NodePrepareResources(self, request: Any) -> Any:
        answers = {}
        for claim in request.claims:
            if self.refuses:
                answers[claim.uid] = {"error": self.refuses}
                continue
            self.prepared.append(claim.name)
            kind = f"{NAME}/claim"
            if self.cdi is not None:
                edits = {
                    "env": [f"DRA_CLAIM={claim.name}"],
                    "deviceNodes": [{"path": "/dev/dra", "hostPath": "/dev/zero"}],
                }
                spec = {"cdiVersion": "0.5.0", "kind": kind, "devices": [{"name": claim.uid, "containerEdits": edits}]}
                (self.cdi / f"{claim.uid}.json").write_text(json.dumps(spec))
            device = {
                "request_names": self.requests,
                "pool_name": "p",
                "device_name": "d",
                "cdi_device_ids": [f"{kind}={claim.uid}"],
            }
            answers[claim.uid] = {"devices": [device]}
        return self._message("NodePrepareResourcesResponse", claims=answers)

    async def NodeUnprepareResources(self, request: Any) -> Any:
        self.unprepared += [claim.name for claim in request.claims]
        for claim in request.claims:
            if self.cdi is not None:
                (self.cdi / f"{claim.uid}.json").unlink(missing_ok=True)
        return self._message("NodeUnprepareResourcesResponse", claims={claim.uid: {} for claim in request.claims})

    async def say(self, health: int, message: str = "", timeout: int = 0, device: str = "d") -> None:
        """What there is to say of the only device from now on."""
        one = {"device": {"pool_name": "p", "device_name": device}, "health": health, "message": message}
        async with self._news:
            self.health = [{**one, "health_check_timeout_seconds": timeout}]
            self._news.notify_all()

    async def NodeWatchResources(self, _: Any) -> AsyncIterator[Any]:
        said = None
        while True:
            async with self._news:
                await self._news.wait_for(lambda: self.health is not said)  # noqa: B023
                said = self.health
            yield dra_health().message("NodeWatchResourcesResponse")(devices=said)

    async def GetInfo(self, _: Any) -> Any:
        about = {"type": "DRAPlugin", "name": NAME, "endpoint": self.endpoint, "supported_versions": [self.service]}
        return registration().message("PluginInfo")(**about)

    async def NotifyRegistrationStatus(self, request: Any) -> Any:
        self.registered.append(request.error)
        return registration().message("RegistrationStatusResponse")()

    def rpcs(self, schema: Any, service: str) -> dict[str, Rpc]:
        return {
            about.path: Rpc(
                about.request.FromString,
                about.response.SerializeToString,
                getattr(self, name),
                response_stream=about.response_stream,
            )
            for name, about in schema.methods(service).items()
        }

    @contextlib.asynccontextmanager
    async def served(self, kubelet: Path) -> AsyncIterator[DraDriver]:
        """Serve below the kubelet's folder; the driver is gone when the block ends."""
        endpoint, entry = kubelet / "plugins" / NAME / "dra.sock", kubelet / "plugins_registry" / f"{NAME}-reg.sock"
        self.endpoint = str(endpoint)
        schema = dra(SERVICES.get(self.service, "v1"))
        async with contextlib.AsyncExitStack() as stack:
            health = self.rpcs(dra_health(), "DRAResourceHealth") if self.health is not None else {}
            for path, rpcs in (
                (endpoint, self.rpcs(schema, "DRAPlugin") | health),
                (entry, self.rpcs(registration(), "Registration")),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                server = GrpcServer(rpcs, status_of=lambda error: None)
                stack.push_async_callback(server.stop, 0)
                await server.listen_unix(str(path))
                stack.callback(path.unlink, missing_ok=True)
            yield self
