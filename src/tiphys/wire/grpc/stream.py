"""One call of a gRPC connection: the messages that come in, and those that wait for room to go out.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

PREFIX = struct.Struct(">BI")
"""Before each message: whether it is compressed, and its length."""
BUFFERED = 128 * 1024
"""How many bytes a call may have waiting to go out before its program has to wait."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method that is served: ``work`` takes a request, or an iterator of them, and gives a response, or many."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    work: Callable[[Any], Any]
    request_stream: bool = False
    response_stream: bool = False


class GrpcError(Exception):
    """A call that ended badly: gRPC's code and a message for the client."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 1, 2, 3, 8, 12, 13


class Carrier(Protocol):
    """The connection of a call, as far as the call uses it."""

    initial_window: int
    """Bytes that a new call may send before the client gives it more room."""

    def send(self, stream: Stream, message: bytes) -> None: ...

    async def drained(self, stream: Stream) -> None: ...

    def consumed(self, stream: Stream, size: int) -> None: ...


class Stream:
    """The state of one call. ``outgoing`` holds framed messages that flow control does not let go yet."""

    __slots__ = (
        "_waiter",
        "body",
        "connection",
        "ended",
        "headers",
        "held",
        "id",
        "messages",
        "outgoing",
        "received",
        "rpc",
        "started",
        "task",
        "trailers",
        "unacknowledged",
        "window",
        "writers",
    )

    def __init__(self, connection: Carrier, id: int, rpc: Rpc | None, headers: list[tuple[str, str]]) -> None:
        self.connection = connection
        self.id = id
        self.rpc = rpc
        """None for a request that is no call, but plain HTTP."""
        self.headers = headers
        self.body = bytearray()
        self.messages: list[bytes] = []
        self.received = 0
        """Bytes of the request, as they came."""
        self.held = 0
        """Those of them that no program has taken."""
        self.ended = False
        """Whether the client has said all."""
        self.started = False
        """Whether the response's headers have gone out."""
        self.task: asyncio.Task[None] | None = None
        self.window = connection.initial_window
        self.outgoing = bytearray()
        self.trailers: bytes | None = None
        self.unacknowledged = 0
        self.writers: list[asyncio.Future[None]] = []
        self._waiter: asyncio.Future[None] | None = None

    # Requests

    def receive(self, data: bytes, limit: int) -> None:
        """Take whole messages out of what has come in; ``body`` keeps the rest. Raises ``GrpcError``."""
        body: bytes | bytearray = data
        if self.body:
            self.body += data
            body = self.body
        at, end = 0, len(body)
        while end - at >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(body, at)
            if length > limit:
                raise GrpcError(RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({length} vs. {limit})")
            if compressed:
                raise GrpcError(UNIMPLEMENTED, "grpc: compressed messages are not supported; send identity")
            start = at + PREFIX.size
            if end - start < length:
                break
            at = start + length
            self.messages.append(bytes(body[start:at]))
        if body is self.body:
            del self.body[:at]
        elif at < end:
            self.body += body[at:]

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def requests(self) -> AsyncIterator[Any]:
        """The messages of the client, until it ends its side."""
        assert self.rpc is not None
        while True:
            while self.messages:
                data = self.messages.pop(0)
                self.connection.consumed(self, PREFIX.size + len(data))
                yield decode(self.rpc, data)
            if self.ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    # Responses

    async def send(self, message: bytes) -> None:
        """Send one message of many; waits while too much is on its way."""
        self.connection.send(self, message)
        await self.drained()

    def drained(self) -> Awaitable[None]:
        return self.connection.drained(self)


def decode(rpc: Rpc, data: bytes) -> Any:
    try:
        return rpc.decode(data)
    except Exception as error:  # what a decoder raises is its own; it says that the bytes are none of its messages
        raise GrpcError(INTERNAL, f"grpc: error unmarshalling request: {error}") from error
