"""Serving etcd's gRPC API with grpcio.

A service is an object with one coroutine, or asynchronous generator, per method; they raise ``StoreError``, which is
turned into etcd's gRPC status here, in one place.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from tiphys.store.backend import StoreError
from tiphys.store.etcdpb import SCHEMA
from tiphys.store.etcdserver.auth import Auth
from tiphys.store.etcdserver.cluster import Cluster
from tiphys.store.etcdserver.errors import code_of
from tiphys.store.etcdserver.kv import KV
from tiphys.store.etcdserver.lease import Lease
from tiphys.store.etcdserver.maintenance import Maintenance
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.watch import Watch
from tiphys.wire.protobuf import Method

log = logging.getLogger(__name__)

MAX_RECEIVED = 2 * 1024 * 1024
"""Bytes of one request: etcd's limit of a write, and something around it."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVED),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """PEM files of a server; with ``client_ca`` clients must show a certificate that it signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        ca = self.client_ca.read_bytes() if self.client_ca is not None else None
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


class EtcdServer:
    """One listener with etcd's services on it."""

    def __init__(self, member: Member, quota: int = 0) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        services: dict[str, Any] = {
            "KV": KV(member),
            "Watch": Watch(member),
            "Lease": Lease(member),
            "Cluster": Cluster(member),
            "Maintenance": Maintenance(member, quota),
            "Auth": Auth(member),
        }
        self._server.add_generic_rpc_handlers([_handlers(name, service) for name, service in services.items()])

    def listen(self, address: str, tls: ServerTLS | None = None) -> int:
        """Listen on ``host:port`` or ``unix:path``; returns the port."""
        try:
            if tls is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, tls.credentials()))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace: float = 1.0) -> None:
        await self._server.stop(grace)


def _handlers(service: str, implementation: Any) -> grpc.GenericRpcHandler:
    handlers = {}
    for name, method in SCHEMA.methods(service).items():
        handlers[name] = _handler(method, getattr(implementation, name))
    path = next(iter(SCHEMA.methods(service).values())).path
    return grpc.method_handlers_generic_handler(path.split("/")[1], handlers)


def _handler(method: Method, work: Callable[[Any], Any]) -> grpc.RpcMethodHandler:
    decode, encode = method.request.FromString, method.response.SerializeToString

    async def unary(request: Any, context: Any) -> Any:
        try:
            return await work(request)
        except StoreError as error:
            await _abort(context, error)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for response in work(request):
                yield response
        except StoreError as error:
            await _abort(context, error)

    if method.request_stream:
        return grpc.stream_stream_rpc_method_handler(stream, decode, encode)
    if method.response_stream:
        return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
    return grpc.unary_unary_rpc_method_handler(unary, decode, encode)


async def _abort(context: Any, error: StoreError) -> None:
    await context.abort(grpc.StatusCode[code_of(error)], str(error))
