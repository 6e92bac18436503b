"""One request on an HTTP/2 connection, and its answer, which waits here until the client's windows have room.

Three tables say where a stream stands (RFC 9113, section 5.1, from the server's side): what has come of the request
(``Asked``), whether the handler has run (``HandlerState``), and how much of the answer is sent (``Reply``).
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import h2.connection
import h2.exceptions
from h2.errors import ErrorCodes

from tiphys.wire import eager
from tiphys.wire.http import Request, Response, Upgrade
from tiphys.wire.listening import Host
from tiphys.wire.memory import Signal
from tiphys.wire.states import States

log = logging.getLogger(__name__)

_LOW_WATER = 64 * 1024
_CONNECTION_FIELDS = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))


class Asked(enum.Enum):
    """The request."""

    COMING = enum.auto()
    WHOLE = enum.auto()
    DROPPED = enum.auto()
    """Too large: what still comes of it is not kept."""


class HandlerState(enum.Enum):
    """The handler."""

    BEFORE = enum.auto()
    RUNNING = enum.auto()
    OVER = enum.auto()


class Reply(enum.Enum):
    """The answer."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    """More may be written."""
    ALL = enum.auto()
    """Nothing more is written; what is queued waits for the windows."""
    SENT = enum.auto()
    LOST = enum.auto()
    """Reset by either side, or the connection is gone."""


class Did(enum.Enum):
    SEND_HEAD = enum.auto()
    SEND_HEAD_ALONE = enum.auto()
    """With END_STREAM: no body follows."""
    WRITE_ALL = enum.auto()
    SEND_LAST = enum.auto()
    CUT = enum.auto()


REPLY: Mapping[Reply, Mapping[Did, Reply]] = {
    Reply.NOTHING: {Did.SEND_HEAD: Reply.HEAD, Did.SEND_HEAD_ALONE: Reply.SENT, Did.CUT: Reply.LOST},
    Reply.HEAD: {Did.WRITE_ALL: Reply.ALL, Did.CUT: Reply.LOST},
    Reply.ALL: {Did.SEND_LAST: Reply.SENT, Did.CUT: Reply.LOST},
    Reply.SENT: {Did.CUT: Reply.LOST},
    Reply.LOST: {Did.CUT: Reply.LOST},
}


class Carrier(Protocol):
    """What a stream asks of its connection."""

    @property
    def host(self) -> Host: ...

    @property
    def transport_buffered(self) -> int: ...

    def send_head(self, number: int, fields: list[tuple[str, str]], *, end: bool) -> None: ...

    def send_soon(self, stream: ServedStream) -> None: ...

    def reset(self, number: int, code: ErrorCodes) -> None: ...

    def stop_later(self, number: int) -> None: ...

    def received(self, stream: ServedStream) -> None: ...

    def forget(self, stream: ServedStream) -> None: ...

    async def passed(self) -> None: ...


class ServedStream:
    """One request and its answer; also the ``Sink`` of a streamed answer."""

    def __init__(self, connection: Carrier, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.body: list[bytes] = []
        self.size = 0
        self.head_size = 0
        """Bytes of the request's head, as the connection counts them."""
        self.queued = False
        """In the connection's queue of streams with output."""
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._asked = Asked.COMING
        self._work = HandlerState.BEFORE
        self._reply = States(REPLY, Reply.NOTHING)
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._sink_ended = False
        self._answers_whole = False
        self._changed = Signal()
        self._since = connection.host.now
        self._stalled_at = -1

    @property
    def takes_body(self) -> bool:
        """Whether what comes of the request is still wanted."""
        return self._asked is Asked.COMING and self._reply.now is not Reply.LOST

    @property
    def _writable(self) -> bool:
        return self._reply.now in (Reply.NOTHING, Reply.HEAD)

    # -- serving

    def serve(self) -> None:
        """The request is whole."""
        self._asked = Asked.WHOLE
        self.request.body = b"".join(self.body)
        self._connection.received(self)
        self._run(self.request)

    def refuse(self, response: Response) -> None:
        """Answer before the request is complete, and ask for no more of it."""
        self._asked = Asked.DROPPED
        self._work = HandlerState.OVER
        self.respond(response, b"", end=True)
        self._forget_if_over()

    def refuse_body(self) -> None:
        self._asked = Asked.DROPPED
        self._connection.received(self)
        self._run(self.request)

    def _run(self, request: Request) -> None:
        self._work = HandlerState.RUNNING
        self.task = eager.start(self._connection.host.loop, self._serve(request))
        if self.task is None or self._work is HandlerState.OVER:
            self.task = None
            self._forget_if_over()

    async def _serve(self, request: Request) -> None:
        """Run the handler and send its answer; a failure resets the stream."""
        try:
            response = await self._answer(request)
            body = response.body
            if isinstance(body, bytes):
                self.respond(response, body, end=True)
            elif isinstance(body, Upgrade):
                log.error("%s %s: an Upgrade cannot answer over HTTP/2", request.method, request.path)
                self._reset(ErrorCodes.HTTP_1_1_REQUIRED)
            else:
                self.respond(response, b"", end=request.method == "HEAD" or response.status in (204, 304))
                if self._reply.now is Reply.HEAD:
                    if self._connection.host.closing:
                        self.end_sink()
                    await body(self)
                    self._end()
        except (ConnectionError, h2.exceptions.ProtocolError) as error:  # of a server that is proxied; of the client
            log.info("%s %s: its stream broke off: %s", request.method, request.path, error)
            self._reset(ErrorCodes.INTERNAL_ERROR)
        except asyncio.CancelledError:
            self._reset(ErrorCodes.CANCEL)
            raise
        except Exception:
            log.exception("%s %s failed in its stream", request.method, request.path)
            self._reset(ErrorCodes.INTERNAL_ERROR)
        finally:
            self._work = HandlerState.OVER
            self.task = None
            self._forget_if_over()

    async def _answer(self, request: Request) -> Response:
        host = self._connection.host
        try:
            return await (host.oversized(request) if self._asked is Asked.DROPPED else host.handler(request))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, b"Internal Server Error\n")

    def respond(self, response: Response, body: bytes, *, end: bool) -> None:
        """Send the head, and with ``end`` all of the body."""
        if self._reply.now is Reply.LOST:
            return
        self._answers_whole = isinstance(response.body, bytes)
        bodiless = response.status in (204, 304)
        fields = [(":status", str(response.status))]
        for name, value in response.headers.items():
            lower = name.lower()
            if lower not in _CONNECTION_FIELDS:
                fields += [(lower, part) for part in value.splitlines() or [""]]
        if self._answers_whole and not bodiless and "Content-Length" not in response.headers:
            fields.append(("content-length", str(len(body))))
        if "Date" not in response.headers:
            fields.append(("date", self._connection.host.date()[6:-2].decode()))
        empty = end and (not body or bodiless or self.request.method == "HEAD")
        self._connection.send_head(self.number, fields, end=empty)
        self._reply.step(Did.SEND_HEAD_ALONE if empty else Did.SEND_HEAD)
        if end and not empty:
            self._queue(body)
            self._end()

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        self._connection.send_soon(self)

    def _end(self) -> None:
        if self._reply.may(Did.WRITE_ALL):
            self._reply.step(Did.WRITE_ALL)
            self._connection.send_soon(self)

    def _reset(self, code: ErrorCodes) -> None:
        if self._reply.now not in (Reply.SENT, Reply.LOST):
            self._connection.reset(self.number, code)
            self.lose()

    def send_some(self, protocol: h2.connection.H2Connection) -> bool | None:
        """Send one frame: whether there is more; None if the client's windows are full."""
        if self._reply.now not in (Reply.HEAD, Reply.ALL):
            return False
        if self._out:
            room = min(protocol.local_flow_control_window(self.number), protocol.max_outbound_frame_size)
            if room <= 0:
                return None
            piece = self._gather(room)
            last = self._reply.now is Reply.ALL and not self._out
            protocol.send_data(self.number, piece, end_stream=last)
            if self._out_size <= _LOW_WATER:
                self._changed.notify()
        else:
            last = self._reply.now is Reply.ALL
            if last:
                protocol.end_stream(self.number)
        if last:
            self._reply.step(Did.SEND_LAST)
            if self._asked is Asked.DROPPED:
                self._connection.stop_later(self.number)
            self._forget_if_over()
        return bool(self._out) or (self._reply.now is Reply.ALL)

    def _gather(self, room: int) -> bytes:
        """Up to ``room`` bytes of output: small pieces share a frame."""
        parts: list[bytes] = []
        while self._out and room > 0:
            piece = self._out.popleft()
            if len(piece) > room:
                self._out.appendleft(piece[room:] if len(piece) < 4 * room else memoryview(piece)[room:])  # type: ignore[arg-type]
                piece = piece[:room]
            parts.append(piece)
            room -= len(piece)
        data = b"".join(parts)
        self._out_size -= len(data)
        return data

    # -- endings

    def lose(self) -> None:
        """The client has reset the stream, or the connection is gone."""
        if self._reply.step(Did.CUT) is Reply.LOST and self._work is HandlerState.OVER:
            return
        self._out.clear()
        self._out_size = 0
        self.end_sink()
        if self.task is not None:
            self.task.cancel()
        else:
            self._work = HandlerState.OVER
        self._forget_if_over()

    def end_sink(self) -> None:
        """Let whoever writes the body know that they are to stop."""
        self._sink_ended = True
        self._changed.notify()

    def _forget_if_over(self) -> None:
        if self._work is HandlerState.OVER and self.task is None and self._reply.now in (Reply.SENT, Reply.LOST):
            self._connection.forget(self)

    def sweep(self, now: float) -> None:
        limits = self._connection.host.limits
        if self.task is not None:
            return
        if self._asked is Asked.COMING:
            expired = now - self._since > limits.body_timeout
        else:
            if self._out_size != self._stalled_at:
                self._stalled_at, self._since = self._out_size, now
            expired = self._answers_whole and now - self._since > limits.stall_timeout
        if expired:
            self._connection.reset(self.number, ErrorCodes.CANCEL)
            self.lose()

    # -- Sink

    def write(self, data: bytes) -> None:
        if data and not self._sink_ended and self._writable:
            self._queue(data)

    @property
    def buffered(self) -> int:
        return self._out_size + self._connection.transport_buffered

    async def drain(self) -> None:
        while self._out_size > _LOW_WATER and self._reply.now is not Reply.LOST:
            await self._changed.wait()
        await self._connection.passed()

    @property
    def closed(self) -> bool:
        return self._sink_ended

    async def wait_closed(self) -> None:
        while not self._sink_ended:
            await self._changed.wait()
