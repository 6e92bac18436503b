"""One request on an HTTP/2 connection, and its answer, which waits here until the client's windows have room."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

import h2.connection
import h2.exceptions
from h2.errors import ErrorCodes

from tiphys.wire import eager
from tiphys.wire.http import Request, Response, Upgrade
from tiphys.wire.memory import Signal

if TYPE_CHECKING:
    from tiphys.wire.http2.connection import Http2Connection

log = logging.getLogger(__name__)

_LOW_WATER = 64 * 1024
_CONNECTION_FIELDS = frozenset(("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"))


class ServedStream:
    """One request and its answer; also the ``Sink`` of a streamed answer."""

    def __init__(self, connection: Http2Connection, number: int, request: Request) -> None:
        self.number = number
        self.request = request
        self.body: list[bytes] = []
        self.size = 0
        self.refused = False
        self.queued = False
        self.task: asyncio.Task[None] | None = None
        self._connection = connection
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._ended = False
        self._finished = False
        self._lost = False
        self._closed = False
        self._whole = False
        self._changed = Signal()
        self._since = connection.server.now
        self._stalled_at = -1

    # -- serving

    def serve(self) -> None:
        self.request.body = b"".join(self.body)
        self._connection.received(self)
        self._run(self.request)

    def refuse(self, response: Response) -> None:
        """Answer before the request is complete, and ask for no more of it."""
        self.refused = self._finished = True
        self.respond(response, b"", end=True)
        self._forget_if_over()

    def refuse_body(self) -> None:
        self.refused = True
        self._connection.received(self)
        self._run(self.request)

    def _run(self, request: Request) -> None:
        self.task = eager.start(self._connection.server.loop, self._serve(request))
        if self.task is None or self._finished:
            self._forget_if_over()

    async def _serve(self, request: Request) -> None:
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
                if not self._ended and not self._lost:
                    if self._connection.server.closing:
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
            self._finished = True
            self.task = None
            self._forget_if_over()

    async def _answer(self, request: Request) -> Response:
        server = self._connection.server
        try:
            return await (server.oversized(request) if self.refused else server.handler(request))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, b"Internal Server Error\n")

    def respond(self, response: Response, body: bytes, *, end: bool) -> None:
        """Send the head, and with ``end`` all of the body."""
        if self._lost:
            return
        self._whole = isinstance(response.body, bytes)
        bodiless = response.status in (204, 304)
        fields = [(":status", str(response.status))]
        for name, value in response.headers.items():
            lower = name.lower()
            if lower not in _CONNECTION_FIELDS:
                fields += [(lower, part) for part in value.splitlines() or [""]]
        if self._whole and not bodiless and "Content-Length" not in response.headers:
            fields.append(("content-length", str(len(body))))
        if "Date" not in response.headers:
            fields.append(("date", self._connection.server.date()[6:-2].decode()))
        empty = end and (not body or bodiless or self.request.method == "HEAD")
        self._connection.send_head(self.number, fields, empty)
        if empty:
            self._ended = True
        elif end:
            self._queue(body)
            self._end()

    def _queue(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        self._connection.send_soon(self)

    def _end(self) -> None:
        if not self._lost:
            self._ended = True
            self._connection.send_soon(self)

    def _reset(self, code: ErrorCodes) -> None:
        if not self._lost:
            self._connection.reset(self.number, code)
            self.lose()

    def send_some(self, protocol: h2.connection.H2Connection) -> bool | None:
        """Send one frame: whether there is more; None where the client's windows are full."""
        if self._lost:
            return False
        if self._out:
            room = min(protocol.local_flow_control_window(self.number), protocol.max_outbound_frame_size)
            if room <= 0:
                return None
            piece = self._gather(room)
            last = self._ended and not self._out
            protocol.send_data(self.number, piece, end_stream=last)
            if self._out_size <= _LOW_WATER:
                self._changed.notify()
        else:
            last = self._ended
            if last:
                protocol.end_stream(self.number)
        if last:
            self._lost = True
            if self.refused:
                self._connection.stop_later(self.number)
            self._forget_if_over()
        return bool(self._out) or (self._ended and not last)

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
        if self._lost and self._finished:
            return
        self._lost = True
        self._out.clear()
        self._out_size = 0
        self.end_sink()
        if self.task is not None:
            self.task.cancel()
        else:
            self._finished = True
        self._forget_if_over()

    def end_sink(self) -> None:
        self._closed = True
        self._changed.notify()

    def _forget_if_over(self) -> None:
        sent = self._ended and not self._out and not self.queued
        if self._finished and self.task is None and (self._lost or sent):
            self._connection.forget(self)

    def sweep(self, now: float) -> None:
        limits = self._connection.server.limits
        if self.task is not None:
            return
        if not self._finished:
            expired = now - self._since > limits.body_timeout
        else:
            if self._out_size != self._stalled_at:
                self._stalled_at, self._since = self._out_size, now
            expired = self._whole and now - self._since > limits.stall_timeout
        if expired:
            self._connection.reset(self.number, ErrorCodes.CANCEL)
            self.lose()

    # -- Sink

    def write(self, data: bytes) -> None:
        if data and not self._closed and not self._lost:
            self._queue(data)

    @property
    def buffered(self) -> int:
        return self._out_size + self._connection.transport_buffered

    async def drain(self) -> None:
        while self._out_size > _LOW_WATER and not self._lost:
            await self._changed.wait()
        await self._connection.passed()

    @property
    def closed(self) -> bool:
        return self._closed

    async def wait_closed(self) -> None:
        while not self._closed:
            await self._changed.wait()
