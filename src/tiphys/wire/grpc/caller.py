"""gRPC calls to a server on a Unix socket: for plugins that are called off the hot path (CSI, devices, registration).

grpcio does the work, and is imported when the first call needs it.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import AsyncIterator
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
    """Calls the methods of ``schema`` at the socket ``path``; the channel is made by the first call.

    ``patient``: a server that does not listen yet is waited for, as long as the call may take.
    """

    def __init__(self, path: str, schema: Schema, *, patient: bool = False) -> None:
        self._path = path
        self._patient = patient
        self._methods: dict[str, Method] = {}
        for service in schema.services():
            self._methods |= schema.methods(service)
        self._channel: Any = None

    async def call(self, method: str, timeout: float, /, **fields: Any) -> Any:
        """The answer's message. ``timeout`` in seconds. Raises ``GrpcError``."""
        import grpc.aio

        about = self._methods[method]
        stub = self._open().unary_unary(
            about.path,
            request_serializer=about.request.SerializeToString,
            response_deserializer=about.response.FromString,
        )
        try:
            return await stub(about.request(**fields), timeout=timeout, wait_for_ready=self._patient)
        except grpc.aio.AioRpcError as error:
            raise GrpcError(error.code().value[0], error.details() or "") from error

    async def stream(self, method: str, /, **fields: Any) -> AsyncIterator[Any]:
        """The messages of a method that sends many, until the server ends them. Raises ``GrpcError``."""
        import grpc.aio

        about = self._methods[method]
        stub = self._open().unary_stream(
            about.path,
            request_serializer=about.request.SerializeToString,
            response_deserializer=about.response.FromString,
        )
        try:
            async for message in stub(about.request(**fields)):
                yield message
        except grpc.aio.AioRpcError as error:
            raise GrpcError(error.code().value[0], error.details() or "") from error

    def _open(self) -> Any:
        import grpc.aio

        if self._channel is None:
            options = [
                ("grpc.default_authority", "localhost"),
                ("grpc.max_reconnect_backoff_ms", 2000),
                ("grpc.use_local_subchannel_pool", 1),  # a new server at the same path is another server
            ]
            self._channel = grpc.aio.insecure_channel(f"unix://{self._path}", options=options)
        return self._channel

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
