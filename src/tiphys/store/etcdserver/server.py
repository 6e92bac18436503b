"""etcd's client port: its gRPC services, and beside them ``/health``, ``/version`` and ``/metrics``.

A service is an object with one coroutine, or asynchronous generator, per method; what they raise becomes etcd's gRPC
status in one place, ``errors.status_of``. Source: https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from tiphys.store.etcdpb import SCHEMA
from tiphys.store.etcdserver.auth import Auth
from tiphys.store.etcdserver.cluster import Cluster
from tiphys.store.etcdserver.errors import status_of
from tiphys.store.etcdserver.health import Pages
from tiphys.store.etcdserver.kv import KV
from tiphys.store.etcdserver.lease import Lease
from tiphys.store.etcdserver.maintenance import Maintenance
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.watch import Watch
from tiphys.wire.grpc.server import GrpcServer, Rpc

MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of one request: etcd's limit of a write, and something around it."""


class EtcdServer:
    """Serves one store as an etcd of one member. ``listen`` as often as wanted, before requests are expected."""

    def __init__(self, member: Member, quota: int = 0, max_message: int = MAX_MESSAGE) -> None:
        """``quota`` is only reported to clients; the store enforces it. ``max_message``: bytes of one request."""
        services: dict[str, Any] = {
            "KV": KV(member),
            "Watch": Watch(member),
            "Lease": Lease(member),
            "Cluster": Cluster(member),
            "Maintenance": Maintenance(member, quota),
            "Auth": Auth(member),
        }
        self.pages = Pages(member)
        self._server = GrpcServer(
            {path: rpc for name, service in services.items() for path, rpc in _rpcs(name, service).items()},
            status_of=status_of,
            handler=self.pages.handle,
            max_message=max_message,
        )

    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, need_certificate: bool = False
    ) -> int:
        """Listen for clients, ``need_certificate``: for those with one; returns the port. Raises ``OSError``."""
        return await self._server.listen(host, port, tls=tls, need_certificate=need_certificate)

    async def listen_on(self, sock: socket.socket, tls: ssl.SSLContext) -> None:
        """Serve clients with a certificate on a socket that listens already."""
        await self._server.listen(sock=sock, tls=tls, need_certificate=True)

    async def listen_unix(self, path: str) -> None:
        await self._server.listen_unix(path)

    async def stop(self, grace: float = 1.0) -> None:
        await self._server.stop(grace)


def _rpcs(service: str, implementation: Any) -> dict[str, Rpc]:
    return {
        method.path: Rpc(
            method.request.FromString,
            _encode,
            getattr(implementation, name),
            method.request_stream,
            method.response_stream,
        )
        for name, method in SCHEMA.methods(service).items()
    }


def _encode(response: Any) -> bytes:
    """What a method answers: a message, or its bytes if it has made them itself."""
    return response if type(response) is bytes else response.SerializeToString()
