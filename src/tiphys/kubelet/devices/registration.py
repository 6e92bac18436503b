"""The socket ``kubelet.sock``, at which device plugins make themselves known.

What plugins have left in the folder is removed at the start: they see that, or the new socket, and register again.

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tiphys.api.pods.resources import is_extended
from tiphys.kubelet.devices.messages import VERSION, deviceplugin
from tiphys.kubelet.plugins.registration import PluginRefused
from tiphys.kubelet.plugins.sockets import private_socket
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.server import GrpcServer, Rpc
from tiphys.wire.grpc.stream import GrpcError

SOCKET = "kubelet.sock"


class RegistrationServer:
    """``connect(resource, socket)`` is called for each plugin; what it raises goes to the plugin."""

    def __init__(self, folder: Path, connect: Callable[[str, str], Awaitable[None]]) -> None:
        self._folder = folder
        self._connect = connect
        self._server: GrpcServer | None = None

    async def start(self) -> None:
        """Raises ``OSError``."""
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        _remove_sockets(self._folder)
        methods = deviceplugin().methods("Registration")
        about = methods["Register"]
        rpcs = {about.path: Rpc(about.request.FromString, about.response.SerializeToString, self._register)}
        self._server = GrpcServer(rpcs, status_of=_status)
        await self._server.listen(sock=private_socket(self._folder, SOCKET))

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def _register(self, request: Any) -> Any:
        if request.version != VERSION:
            message = (
                f'requested API version "{request.version}" is not supported by kubelet. '
                f'Supported version is ["{VERSION}"]'
            )
            raise PluginRefused(message)
        check_resource(request.resource_name)
        if not request.endpoint:
            raise PluginRefused("endpoint: empty; name the plugin's socket in the kubelet's folder of device plugins")
        await self._connect(request.resource_name, str(self._folder / request.endpoint))
        return deviceplugin().message("Empty")()


def check_resource(name: str) -> None:
    """Raises ``PluginRefused`` if a plugin cannot offer a resource of this name."""
    if not is_extended(name):
        raise PluginRefused(f'the ResourceName "{name}" is invalid')


def _status(error: Exception) -> tuple[int, str] | None:
    if isinstance(error, PluginRefused):
        return StatusCode.UNKNOWN, str(error)
    if isinstance(error, GrpcError):
        return error.code, str(error)
    return None


def _remove_sockets(folder: Path) -> None:
    for entry in os.scandir(folder):
        if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            os.unlink(entry.path)
