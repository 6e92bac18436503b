"""``Transport`` over sockets: HTTP/1.1 with kept-alive connections, streamed bodies, and upgrades.

A request takes an idle connection or makes one, and has it alone until its response is read to the end. A watch
therefore holds a connection; there is no bound on their number, only on how many are kept idle.

A kept connection may turn out to be closed by the server just as the request is sent. The request is then sent once
more on a new one, if it is a GET, HEAD or OPTIONS: of others nobody knows whether they were carried out.

A network that is cut and heals leaves connections on which the server sends again only after as long as the cut took:
up to two minutes in which a watch is silent. So once the server can be reached again, those on which nothing has come
since it could not are given up.

Source: RFC 9110, RFC 9112
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tiphys.runtime.remembering import remembered
from tiphys.wire.http import Request
from tiphys.wire.http1.client_connection import ClientConnection, SocketResponse
from tiphys.wire.http1.framing import request_head
from tiphys.wire.stream import watch_over
from tiphys.wire.tls.following import FollowedCertificate
from tiphys.wire.tls.layer import TlsLayer

_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))
_UNANSWERED = 2.0
"""Seconds without an answer to a connection's first packet after which the host counts as out of reach, though the
attempt was ended by somebody else."""
_BODY_EXPECTED = frozenset(("POST", "PUT", "PATCH"))


class Address(NamedTuple):
    """Where a URL points."""

    secure: bool
    host: str
    port: int
    path: str
    """Without a slash at the end; ``""`` for the root."""


def parse_url(url: str) -> Address:
    """Read ``https://host[:port][/path]`` (or http; without a scheme: http). Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url!r}: the scheme must be http or https")
    if not parts.hostname:
        raise ValueError(f"{url!r} has no host")
    secure = parts.scheme == "https"
    return Address(secure, parts.hostname, parts.port or (443 if secure else 80), parts.path.rstrip("/"))


class SocketTransport:
    """Requests to one server over TCP, TLS or a Unix socket."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        *,
        unix_path: str | None = None,
        allowed: Callable[[str], bool] | None = None,
        connect_timeout: float = 30.0,
        idle_timeout: float = 60.0,
        max_idle: int = 64,
        certificate: FollowedCertificate | None = None,
    ) -> None:
        """``server_hostname``: the name that the certificate must carry, if it is not ``host``.

        ``unix_path``: connect there; host and port then only make the Host field. ``allowed`` is asked of each address
        that the host has; with one that is not, no connection is made. ``certificate``: the one that ``tls`` shows, if
        it may be renewed: then no request is sent on a connection that showed the one before.
        """
        self._host = host
        self._port = port
        self._tls = tls
        self._server_hostname = (server_hostname or host) if tls is not None else None
        self._unix_path = unix_path
        self._allowed = allowed
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._max_idle = max_idle
        self._idle: list[ClientConnection] = []
        self._all: set[ClientConnection] = set()
        self._closed = False
        self._certificate = certificate
        self._out_of_reach: float | None = None
        """Since when no connection could be made; None if the last attempt reached the server's host."""
        self._generation = 0
        """Of the certificate that new connections show."""
        literal = f"[{host}]" if ":" in host else host
        self._host_field = literal if port == (443 if tls is not None else 80) else f"{literal}:{port}"

    async def send(self, request: Request, timeout: float | None = None) -> SocketResponse:
        """See ``http.Transport``."""
        message = self._render(request)
        if timeout is None:
            return await self._send(request, message)
        async with asyncio.timeout(timeout):
            return await self._send(request, message)

    async def _send(self, request: Request, message: bytes) -> SocketResponse:
        kept = self._take_idle()
        if kept is not None:
            try:
                return await kept.exchange(request.method, message)
            except ConnectionError:
                if request.method not in _REPEATABLE or kept.answered:
                    raise
        connection = await self._connect()
        return await connection.exchange(request.method, message)

    def _render(self, request: Request) -> bytes:
        headers = request.headers
        fields = {canonical(name): "\n".join(headers.each(name)) for name in headers}  # a line break: one more field
        rest = "" if "Host" in fields else f"Host: {self._host_field}\r\n"
        if (request.body or request.method in _BODY_EXPECTED) and "Content-Length" not in fields:
            rest += f"Content-Length: {len(request.body)}\r\n"
        target = f"{request.path}?{request.query}" if request.query else request.path
        return request_head(request.method, target, fields, rest) + request.body

    # -- connections

    def _take_idle(self) -> ClientConnection | None:
        now = asyncio.get_running_loop().time()
        oldest = now - self._idle_timeout
        self._follow_certificate(now)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> ClientConnection:
        if self._closed:
            raise ConnectionError("the transport is closed")
        where = f"unix:{self._unix_path}" if self._unix_path else self._host_field
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self._open()
        except ConnectionError as error:
            raise type(error)(error.errno, f"connect to {where}: {error.strerror or error}") from error
        except TimeoutError as error:
            raise ConnectionError(f"connect to {where}: timed out") from error
        except OSError as error:  # no such name, no route, TLS
            raise ConnectionError(f"connect to {where}: {error}") from error

    def _follow_certificate(self, now: float) -> None:
        """Keep no idle connection that showed a certificate which has been replaced."""
        if self._certificate is None:
            return
        self._generation = self._certificate.follow(now)
        if any(connection.generation != self._generation for connection in self._idle):
            kept, self._idle = self._idle, []
            for connection in kept:
                self._release(connection)

    async def _open(self) -> ClientConnection:
        """Connect, with TLS if configured. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        connection = ClientConnection(self._release, self._all.discard, self._generation)
        ready: asyncio.Future[None] = loop.create_future()

        def make() -> asyncio.Protocol:
            if self._tls is None:
                return connection
            name = self._server_hostname
            return TlsLayer(self._tls, lambda: connection, self._connect_timeout, server_hostname=name, ready=ready)

        transport = await self._reach(make)
        watch_over(transport.get_extra_info("socket"))
        if self._tls is not None:
            try:
                await ready
            except BaseException:
                transport.abort()
                raise
        self._all.add(connection)
        return connection

    async def _reach(self, make: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """Connect, and note whether the host can be reached. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        transport: asyncio.Transport
        try:
            if self._unix_path is not None:
                transport, _ = await loop.create_unix_connection(make, self._unix_path)
            elif self._allowed is None:
                transport, _ = await loop.create_connection(make, self._host, self._port)
            else:
                transport = await self._open_allowed(make, self._allowed)
        except ConnectionRefusedError:
            raise  # by a host that answers
        except (OSError, asyncio.CancelledError) as error:
            if self._out_of_reach is None and (isinstance(error, OSError) or loop.time() - began >= _UNANSWERED):
                self._out_of_reach = began
            raise
        since, self._out_of_reach = self._out_of_reach, None
        if since is not None:
            for connection in tuple(self._all):
                if connection.heard < since:
                    connection.give_up()
        return transport

    async def _open_allowed(self, make: Callable[[], asyncio.Protocol], allowed: Callable[[str], bool]) -> Any:
        loop = asyncio.get_running_loop()
        entries = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        if not all(allowed(address) for address in addresses):
            raise ConnectionRefusedError("address not allowed")
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                return (await loop.create_connection(make, address, self._port))[0]
        return (await loop.create_connection(make, addresses[-1], self._port))[0]

    def retire(self) -> None:
        """Keep no connection any more; requests under way are carried to their end."""
        self._max_idle = 0
        while self._idle:
            self._idle.pop().close()

    def _release(self, connection: ClientConnection) -> None:
        """Take a connection back whose response is complete."""
        full = len(self._idle) >= self._max_idle
        if self._closed or full or connection.generation != self._generation:
            connection.close()
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close every connection, those in use too."""
        self._closed = True
        connections = tuple(self._all)
        self._idle.clear()
        for connection in connections:
            connection.close()
        for connection in connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await connection.wait_lost()


@remembered(512, longest=128)
def canonical(name: str) -> str:
    """A field's name as Go writes it: ``content-type`` is ``Content-Type``."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))
