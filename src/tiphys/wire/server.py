"""Listening: accepts connections and gives their requests to a ``Handler``, by HTTP/1.1 or (chosen by ALPN) HTTP/2.

``Server`` owns the connections: it sweeps them for timeouts with one timer (a timer per request would cost more than
the request), flushes what streams wrote once per turn of the loop, and ends them in order at shutdown: no new ones,
idle ones at once, requests in flight get to finish, streams are notified by ``Sink.closed``.

Source: RFC 9110, RFC 9112
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from random import Random
from typing import Any, cast

from tiphys.wire.http import Handler, Request, Response
from tiphys.wire.http1.connection import Http1Connection
from tiphys.wire.listening import Connection, Limits
from tiphys.wire.reserving import reserve
from tiphys.wire.stream import watch_over
from tiphys.wire.tls.layer import TlsLayer

__all__ = ["Limits", "Server", "refuse_body", "serve"]

log = logging.getLogger(__name__)

_PASS_GAPS = 3
"""For how many times as long as a pass over the streams took the next one is put off."""
_MAX_PASS_GAP = 0.03
"""Seconds by which a stream's piece may be held back at most."""
_PASS_RECENT = 0.25
"""Seconds for which one pass over the streams predicts how many of them the next one meets."""


async def refuse_body(request: Request) -> Response:
    """The answer to a request with too large a body, if the program gives none itself."""
    return Response(413, {"Content-Type": "text/plain; charset=utf-8"}, b"Request entity too large\n")


class Server:
    """A listener and its connections. Made by ``serve``."""

    def __init__(self, handler: Handler, limits: Limits, oversized: Handler, *, secure: bool) -> None:
        self.handler = handler
        self.oversized = oversized
        self.limits = limits
        self.chance = Random()
        self.secure = secure
        self.closing = False
        self.connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        """The loop's time as of the last sweep: exact enough for timeouts, and free to read."""
        self._dirty: list[Connection] = []
        self._dirty_streams: list[Connection] = []
        self._pass_ended = self._pass_took = 0.0
        self._pass_timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Server | None = None
        self._handshaking: set[TlsLayer] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        timeouts = (limits.header_timeout, limits.body_timeout, limits.idle_timeout, limits.stall_timeout)
        self._sweep_every = min(1.0, *(timeout / 4 for timeout in timeouts))
        self._empty = asyncio.Event()
        self._empty.set()
        self._date = b""
        self._date_second = 0

    @property
    def port(self) -> int:
        """The port that the listener got (of its first socket)."""
        name = self.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return tuple(self._listener.sockets) if self._listener is not None else ()

    async def listen(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, sock: socket.socket | None, backlog: int
    ) -> None:
        """Listen, with TLS if ``tls`` is given, on ``sock`` or on ``host`` and ``port``. Raises ``OSError``."""
        if sock is None and host == "::":
            sock = reserve(host, port)
        where: dict[str, Any] = {"sock": sock} if sock is not None else {"host": host or None, "port": port}
        timeout = self.limits.handshake_timeout

        def plain() -> asyncio.Protocol:
            return Http1Connection(self)

        def encrypted() -> asyncio.Protocol:
            return TlsLayer(cast(ssl.SSLContext, tls), plain, timeout, pending=self._handshaking)

        make = plain if tls is None else encrypted
        if sock is not None and sock.family == socket.AF_UNIX:
            self._listener = await self.loop.create_unix_server(make, backlog=backlog, sock=sock)
        else:
            self._listener = await self.loop.create_server(make, backlog=backlog, **where)
        for listening in self.sockets:
            watch_over(listening)

    # -- what connections call

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)
        self._empty.clear()
        if self._sweeper is None:
            self.now = self.loop.time()
            self._sweeper = self.loop.call_later(self._sweep_every, self._sweep)

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def flush_soon(self, connection: Connection) -> None:
        """Call the connection's ``flush`` at the end of this turn of the loop."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def flush_stream_soon(self, connection: Connection) -> None:
        """As ``flush_soon``, for a piece of a stream.

        One event goes to hundreds of watchers, at 10 µs each. So if a pass over the streams takes long, the next one
        is put off, by thrice as long and up to a bound, from its first piece on: the events that come meanwhile share
        a write, and requests are not held up behind them. It is put off even if the last pass is over for longer than
        that, as who writes may have been busy reading its events. If there are few watchers, a pass follows at once.
        """
        if not self._dirty_streams:
            recent = time.perf_counter() - self._pass_ended < _PASS_RECENT
            wait = min(_PASS_GAPS * self._pass_took, _MAX_PASS_GAP) if recent else 0.0
            if wait > 0.001:
                self._pass_timer = self.loop.call_later(wait, self._flush_streams)
            else:
                self.loop.call_soon(self._flush_streams)
        self._dirty_streams.append(connection)

    def date(self) -> bytes:
        """The Date field, as a line."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = b"Date: %s\r\n" % formatdate(second, usegmt=True).encode()
        return self._date

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        self._flush_all(dirty)

    def _flush_streams(self) -> None:
        started = time.perf_counter()
        dirty, self._dirty_streams = self._dirty_streams, []
        self._flush_all(dirty)
        self._pass_ended = time.perf_counter()
        self._pass_took = self._pass_ended - started

    @staticmethod
    def _flush_all(dirty: list[Connection]) -> None:
        """As ``_each``, without a call for each: there may be hundreds, many times a second."""
        for connection in dirty:
            try:
                connection.flush()
            except Exception:
                log.exception("a connection failed and is cut")
                connection.abort()

    @staticmethod
    def _each(connection: Connection, action: Callable[..., None], *args: object) -> None:
        """A step of a pass over all connections: one that fails is cut, and the others have their turn."""
        try:
            action(*args)
        except Exception:
            log.exception("a connection failed and is cut")
            connection.abort()

    def _sweep(self) -> None:
        self.now = now = self.loop.time()
        for connection in tuple(self.connections):
            self._each(connection, connection.sweep, now)
        self._sweeper = self.loop.call_later(self._sweep_every, self._sweep) if self.connections else None

    # -- the end

    async def close(self, grace: float = 10.0) -> None:
        """Stop listening, let requests in flight end for up to ``grace`` seconds, then cut what is left."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        try:
            for layer in tuple(self._handshaking):
                layer.abort()
            for connection in tuple(self.connections):
                connection.shut_down()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._empty.wait()
        finally:
            await self._cut()

    async def _cut(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        for connection in tuple(self.connections):
            tasks |= connection.tasks()
            connection.abort()
        tasks.discard(asyncio.current_task())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for timer in (self._sweeper, self._pass_timer):
            if timer is not None:
                timer.cancel()
        self._sweeper = None
        if self.connections:
            await self._empty.wait()


async def serve(
    handler: Handler,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    limits: Limits | None = None,
    oversized: Handler = refuse_body,
    sock: socket.socket | None = None,
    backlog: int = 1024,
) -> Server:
    """Listen on ``host``:``port`` (0: any free one, see ``Server.port``) and answer with ``handler``.

    ``tls`` comes from ``wire.tls.server_context``. ``oversized`` answers requests whose body is larger than
    ``limits.body``; it gets them without the body. ``sock`` is a bound socket to use in place of host and port.
    Raises OSError if the address cannot be had.
    """
    server = Server(handler, limits or Limits(), oversized, secure=tls is not None)
    await server.listen(host, port, tls=tls, sock=sock, backlog=backlog)
    return server
