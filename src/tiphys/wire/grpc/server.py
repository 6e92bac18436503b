"""Serving gRPC on asyncio: one listener for calls and for plain HTTP beside them, as etcd's client port has it.

It is our own, and not grpcio's, because it costs 40 µs a call instead of 300, no threads and no 30 MB; and because
grpcio cannot share its port. Only what servers need is here: no compression, no interceptors, no reflection.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping

from tiphys.wire.grpc.connection import GrpcConnection
from tiphys.wire.grpc.stream import GrpcError, Rpc
from tiphys.wire.http import Handler, Request, Response
from tiphys.wire.http1.connection import Http1Connection
from tiphys.wire.server import Limits, Server, refuse_body

__all__ = ["GrpcError", "GrpcServer", "Rpc"]

Status = tuple[int, str]


async def _not_found(_: Request) -> Response:
    return Response(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")


class GrpcServer:
    """``rpcs`` maps paths (``/package.Service/Method``); ``status_of`` maps an exception to code and message."""

    def __init__(
        self,
        rpcs: Mapping[str, Rpc],
        *,
        status_of: Callable[[Exception], Status | None],
        handler: Handler = _not_found,
        max_message: int = 4 << 20,
    ) -> None:
        self.rpcs = rpcs
        self.status_of = status_of
        self.handler = handler
        self.max_message = max_message
        self.loop = asyncio.get_running_loop()
        self.connections: set[GrpcConnection] = set()
        self._http = Server(handler, Limits(), refuse_body, secure=False)
        self._listeners: list[asyncio.Server] = []

    def http1(self) -> asyncio.Protocol:
        """The protocol for a connection that turned out to speak HTTP/1.1."""
        return Http1Connection(self._http)

    async def listen(
        self,
        host: str = "",
        port: int = 0,
        *,
        tls: ssl.SSLContext | None = None,
        need_certificate: bool = False,
        sock: socket.socket | None = None,
    ) -> int:
        """Listen, on one more place; returns the port. Raises ``OSError``.

        ``need_certificate``: turn clients away who show no certificate; ``tls`` checks those that are shown.
        """

        def connection() -> GrpcConnection:
            return GrpcConnection(self, need_certificate=need_certificate)

        if sock is not None:
            listener = await self.loop.create_server(connection, sock=sock, ssl=tls, backlog=512)
        else:
            listener = await self.loop.create_server(connection, host or None, port, ssl=tls, backlog=512)
        self._listeners.append(listener)
        name = listener.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    async def listen_unix(self, path: str) -> None:
        """Listen on a Unix socket."""
        self._listeners.append(await self.loop.create_unix_server(lambda: GrpcConnection(self), path, backlog=512))

    async def stop(self, grace: float = 1.0) -> None:
        """Stop listening, give calls ``grace`` seconds to end, and close what is left."""
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.shut_down()
        tasks = [task for connection in self.connections for task in connection.tasks()]
        if tasks and grace > 0:
            await asyncio.wait(tasks, timeout=grace)
        left = [task for connection in self.connections for task in connection.tasks()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for connection in list(self.connections):
            connection.close()
        await self._http.close(grace)
        deadline = self.loop.time() + max(grace, 0.1)
        while self.connections and self.loop.time() < deadline:  # their last bytes are on their way
            await asyncio.sleep(0.01)
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
