"""Serves the driver on its node: its services on a socket of its own, and its registration where the kubelet looks.

Source: https://kubernetes-csi.github.io/docs/deploying.html and KEP-595
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from tiphys.api.csi.messages import registration
from tiphys.csi.connection import rpcs
from tiphys.wire.grpc.server import GrpcServer, Rpc

log = logging.getLogger(__name__)


def _unknown(_: Exception) -> None:
    """What no service has foreseen is an internal error, and logged by the server."""


class Registration:
    """Answers the kubelet: which driver, and where."""

    def __init__(self, name: str, endpoint: Path) -> None:
        self._name = name
        self._endpoint = str(endpoint)

    async def GetInfo(self, _: Any) -> Any:
        about = {"type": "CSIPlugin", "name": self._name, "endpoint": self._endpoint, "supported_versions": ["1.12.0"]}
        return registration().message("PluginInfo")(**about)

    async def NotifyRegistrationStatus(self, request: Any) -> Any:
        if not request.plugin_registered:
            log.warning("the kubelet has not registered the driver: %s", request.error)
        return registration().message("RegistrationStatusResponse")()

    def rpcs(self) -> dict[str, Rpc]:
        served = {}
        for name, about in registration().methods("Registration").items():
            served[about.path] = Rpc(about.request.FromString, about.response.SerializeToString, getattr(self, name))
        return served


@contextlib.asynccontextmanager
async def served(services: Iterable[object], kubelet_dir: Path, name: str) -> AsyncIterator[None]:
    """Listen below the kubelet's folder for as long as the block runs."""
    endpoint = kubelet_dir / "plugins" / name / "csi.sock"
    entry = kubelet_dir / "plugins_registry" / f"{name}-reg.sock"
    async with contextlib.AsyncExitStack() as stack:
        for path, methods in ((endpoint, rpcs(services)), (entry, Registration(name, endpoint).rpcs())):
            server = GrpcServer(methods, status_of=_unknown)
            stack.push_async_callback(server.stop)
            await _listen(server, path)
            stack.callback(path.unlink, missing_ok=True)
        yield


async def _listen(server: GrpcServer, path: Path) -> None:
    """On a fresh socket that root alone can use; it gets its name when it can be connected to."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    await server.listen_unix(str(temporary))
    os.chmod(temporary, 0o600)
    temporary.replace(path)
