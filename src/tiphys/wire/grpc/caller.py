"""Unary gRPC calls to a server on a Unix socket: for plugins that are called off the hot path (CSI, registration).

grpcio does the work, and is imported when the first call needs it.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from typing import Any

from tiphys.wire.grpc.stream import GrpcError
from tiphys.wire.protobuf import Method, Schema

_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
"""By their numbers."""


def describe(error: GrpcError) -> str:
    """The error as gRPC's Go library prints it, which is what events show."""
    code = _CODES[error.code] if error.code < len(_CODES) else f"Code({error.code})"
    return f"rpc error: code = {code} desc = {error}"


class Caller:
    """Calls the methods of ``schema`` at the socket ``path``; the channel is made by the first call."""

    def __init__(self, path: str, schema: Schema) -> None:
        self._path = path
        self._methods: dict[str, Method] = {}
        for service in schema.services():
            self._methods |= schema.methods(service)
        self._channel: Any = None

    async def call(self, method: str, timeout: float, /, **fields: Any) -> Any:
        """The answer's message. ``timeout`` in seconds. Raises ``GrpcError``."""
        import grpc.aio

        if self._channel is None:
            options = [("grpc.default_authority", "localhost"), ("grpc.max_reconnect_backoff_ms", 2000)]
            self._channel = grpc.aio.insecure_channel(f"unix://{self._path}", options=options)
        about = self._methods[method]
        stub = self._channel.unary_unary(
            about.path,
            request_serializer=about.request.SerializeToString,
            response_deserializer=about.response.FromString,
        )
        try:
            return await stub(about.request(**fields), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise GrpcError(error.code().value[0], error.details() or "") from error

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
