"""One HTTP/1.1 connection of a client, and the response that is being read from it.

Source: RFC 9110, RFC 9112
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from tiphys.wire.fieldtext import field_name, text
from tiphys.wire.http import Headers, read_whole
from tiphys.wire.parting import unread
from tiphys.wire.stream import ReadGate, TransportStream, WriteGate

_HIGH_WATER = 512 * 1024
_LOW_WATER = 128 * 1024
_MAX_HEAD = 1024 * 1024


class Stage(enum.Enum):
    """What the next bytes from the server are."""

    IDLE = enum.auto()
    """None are expected: no request is under way."""
    HEAD = enum.auto()
    """The head of the response to the request that has been sent."""
    BODY = enum.auto()
    """A body whose end the parser finds, by its length or its chunks."""
    BODY_TO_END = enum.auto()
    """A body that ends with the connection."""
    BODILESS = enum.auto()
    """No body, whatever the head says: the answer to a HEAD, or a 101 without an Upgrade field."""
    RAW = enum.auto()
    """They belong to an Upgrade."""
    LOST = enum.auto()
    """None: the connection is gone, or given up."""


TRANSITIONS: dict[tuple[Stage, str], Stage] = {
    (Stage.IDLE, "request"): Stage.HEAD,
    (Stage.HEAD, "framed"): Stage.BODY,
    (Stage.HEAD, "unframed"): Stage.BODY_TO_END,
    (Stage.HEAD, "bodiless"): Stage.BODILESS,
    (Stage.BODY, "complete"): Stage.IDLE,
    (Stage.BODY_TO_END, "complete"): Stage.IDLE,
    (Stage.BODILESS, "complete"): Stage.IDLE,
    (Stage.BODY, "upgrade"): Stage.RAW,
    (Stage.BODY_TO_END, "upgrade"): Stage.RAW,
}
"""From every stage, "lost" leads to LOST."""


class ClientConnection(asyncio.Protocol):
    """Carries one request at a time; ``release`` takes it back when the response is complete."""

    def __init__(
        self,
        release: Callable[[ClientConnection], None],
        lost: Callable[[ClientConnection], None],
        generation: int = 0,
    ) -> None:
        self.generation = generation
        """Of the certificate that this connection showed."""
        self._release = release
        self._on_lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._gate = WriteGate()
        self._parser = HttpResponseParser(self)
        self._method = ""
        self._fields: list[tuple[str, str]] = []
        self._head: asyncio.Future[SocketResponse] | None = None
        self._response: SocketResponse | None = None
        self._raw: TransportStream | None = None
        self._stage = Stage.IDLE
        self._reading: ReadGate = cast(ReadGate, None)
        self._keep_alive = False
        self._head_size = 0
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.answered = False
        """Whether a byte has come for the current request."""
        self.idle_since = 0.0
        self.heard = self._loop.time()
        """When the server last sent something."""

    @property
    def usable(self) -> bool:
        return self._stage is Stage.IDLE and not self._transport.is_closing()

    async def exchange(self, method: str, message: bytes) -> SocketResponse:
        """Send a request and wait for its response's head. Raises ConnectionError."""
        self._method = method
        self.answered = False
        self._head_size = 0
        if self._transport.is_closing():
            raise ConnectionResetError("connection closed by the server")
        self._move("request")
        self._head = head = self._loop.create_future()
        self._transport.write(message)
        try:
            response: SocketResponse = await head
        except BaseException:  # cancelled or failed: nobody will read what comes
            self.close()
            raise
        return response

    def close(self) -> None:
        self._transport.abort()

    def give_up(self) -> None:
        """Close it if it is idle, or a body is being read from it. Whoever waits for a head has a time limit of their
        own, and what an Upgrade carries may well be silent."""
        if self._stage in (Stage.IDLE, Stage.BODY, Stage.BODY_TO_END):
            self._fail(ConnectionResetError("the server was out of reach for a while, and nothing has come since"))
            self._transport.abort()

    async def wait_lost(self) -> None:
        """Wait until the connection is gone."""
        await asyncio.shield(self._lost)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reading = ReadGate(self._transport)

    def data_received(self, data: bytes) -> None:
        """Feed bytes to the response, or to the stream after an Upgrade; aborts the connection on a malformed one."""
        self.heard = self._loop.time()
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self._stage in (Stage.IDLE, Stage.LOST):  # unasked for: such a server cannot be trusted further
            self._transport.abort()
            return
        self.answered = True
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._take_over(data[upgrade.args[0] :])
        except HttpParserError as error:
            if self._stage is Stage.BODILESS:
                self._end_bodiless()
            else:
                self._fail(ConnectionError(f"malformed response: {error}"))
                self._transport.abort()
        else:
            if self._stage is Stage.HEAD:
                self._head_size += len(data)
                if self._head_size > _MAX_HEAD:
                    self._fail(ConnectionError("the response's head is too large"))
                    self._transport.abort()

    def eof_received(self) -> bool:
        if self._raw is not None:
            self._raw.feed_eof()
            return True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Complete a response that ends with the connection; fail one that is cut off."""
        self._gate.lose()
        if self._raw is not None:
            self._raw.feed_eof(error)
        elif error is not None and self._response is not None:
            self.data_received(unread(self._transport))
        if self._response is not None and self._stage is Stage.BODY_TO_END and error is None:
            self._response.complete()
            self._response = None
            self._stage = Stage.LOST
        else:
            failure = ConnectionResetError("connection closed before the response was complete")
            failure.__cause__ = error
            self._fail(failure)
        if not self._lost.done():
            self._lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._gate.shut = True

    def resume_writing(self) -> None:
        self._gate.open()

    # -- parsing

    def on_message_begin(self) -> None:
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is not Stage.HEAD:  # a trailer
            return
        self._fields.append((field_name(name), text(value)))

    def on_headers_complete(self) -> None:
        """Resolve the waiting request with its response, whose body follows. Interim 1xx responses are skipped."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            return
        head, self._head = self._head, None
        if head is None or head.done():
            raise HttpParserError("a response that nobody waits for")
        headers = Headers.of(self._fields)
        self._keep_alive = self._parser.should_keep_alive()
        self._response = response = SocketResponse(status, headers, self)
        head.set_result(response)
        if self._method == "HEAD" or (status == 101 and not self._parser.should_upgrade()):
            self._move("bodiless")
            # The parser has no way to learn that no body follows: stop it here, and replace it.
            raise HttpParserError("no body")
        self._move("framed" if "content-length" in headers or "transfer-encoding" in headers else "unframed")

    def on_body(self, data: bytes) -> None:
        if self._response is not None and self._response.feed(data) > _HIGH_WATER:
            self._reading.close()

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or response.status == 101:
            return
        self._complete(response)

    def _end_bodiless(self) -> None:
        self._parser = HttpResponseParser(self)
        response = self._response
        if response is None:
            return
        if response.status == 101:
            self._fail(ConnectionError("101 without an Upgrade field"))
            self._transport.abort()
            return
        self._complete(response)

    def _complete(self, response: SocketResponse) -> None:
        """The response is whole: the connection is idle again, if it may be kept."""
        self._response = None
        response.complete()
        self._move("complete")
        self.resume()
        if self._keep_alive and not self._transport.is_closing():
            self.idle_since = self._loop.time()
            self._release(self)
        else:
            self._transport.close()

    def _take_over(self, rest: bytes) -> None:
        response, self._response = self._response, None
        self._move("upgrade")
        self._raw = TransportStream(self._transport, self._gate, rest)
        if response is not None:
            response.take_over(self._raw)

    def _fail(self, error: ConnectionError) -> None:
        self._stage = Stage.LOST
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(error)
        response, self._response = self._response, None
        if response is not None:
            response.fail(error)

    def resume(self) -> None:
        """The response's reader has caught up."""
        self._reading.open()

    def _move(self, event: str) -> None:
        self._stage = TRANSITIONS[self._stage, event]


class SocketResponse:
    """A response whose body may still be coming. One reader at a time."""

    def __init__(self, status: int, headers: Headers, connection: ClientConnection) -> None:
        self.status = status
        self.headers = headers
        self._connection: ClientConnection | None = connection
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._error: ConnectionError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._raw: TransportStream | None = None

    # -- what the connection calls

    def feed(self, data: bytes) -> int:
        self._pieces.append(data)
        self._size += len(data)
        self._wake()
        return self._size

    def complete(self) -> None:
        self._connection = None
        self._wake()

    def fail(self, error: ConnectionError) -> None:
        self._connection = None
        self._error = error
        self._wake()

    def take_over(self, stream: TransportStream) -> None:
        self._raw = stream

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- ClientResponse

    async def read(self, limit: int | None = None) -> bytes:
        return await read_whole(self, limit)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pieces of the body as they arrive. Raises ``ConnectionError`` if it is cut off."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._connection is not None and self._size < _LOW_WATER:
                    self._connection.resume()
                yield piece
            if self._error is not None:
                raise self._error
            if self._connection is None or self._raw is not None:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def upgraded(self) -> TransportStream:
        if self._raw is None:
            raise RuntimeError(f"the response is not an upgrade, but {self.status}")
        return self._raw

    async def close(self) -> None:
        """Nothing more is read. A connection whose response was not complete is closed."""
        connection, self._connection = self._connection, None
        self._pieces.clear()
        if connection is not None:
            connection.close()
        self._wake()
