"""``ByteStream`` over an asyncio transport: what an Upgrade gets on the server's side and on the client's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import cast

from tiphys.wire.parting import part, unread

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024


class WriteGate:
    """Whether a transport takes more bytes; the protocol's ``pause_writing`` and ``resume_writing`` turn it."""

    __slots__ = ("_lost", "_waiters", "shut")

    def __init__(self) -> None:
        self.shut = False
        self._lost = False
        self._waiters: list[asyncio.Future[None]] = []

    async def passed(self) -> None:
        """Wait until the gate is open, or the connection gone."""
        if not self.shut or self._lost:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def open(self) -> None:
        self.shut = False
        self._wake()

    def lose(self) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class ReadGate:
    """Whether a transport is read from: shut while what has been read waits for its user."""

    __slots__ = ("_transport", "shut")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.shut = False

    def close(self) -> None:
        if not self.shut:
            self.shut = True
            self._transport.pause_reading()

    def open(self) -> None:
        if self.shut:
            self.shut = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


class TransportStream:
    """The raw connection; the owning protocol feeds it. One reader at a time."""

    __slots__ = ("_buffer", "_closed", "_eof", "_error", "_gate", "_intake", "_transport", "_waiter")

    def __init__(self, transport: asyncio.Transport, gate: WriteGate, initial: bytes = b"") -> None:
        self._transport = transport
        self._gate = gate
        self._buffer = bytearray(initial)
        self._eof = False
        self._closed = False
        self._error: Exception | None = None
        self._intake = ReadGate(transport)
        self._waiter: asyncio.Future[None] | None = None

    # -- what the protocol calls

    def feed(self, data: bytes) -> None:
        if self._closed:
            return
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and not self._eof:
            self._intake.close()
        self._wake()

    def feed_eof(self, error: Exception | None = None) -> None:
        """No more bytes come; with ``error``, the connection broke."""
        if error is not None and not self._eof:
            self.feed(unread(self._transport))
        self._eof = True
        if self._closed and error is None:
            self._transport.close()
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- ByteStream

    async def read(self, limit: int = 65536) -> bytes:
        """Up to ``limit`` bytes; empty at the end. Raises ``ConnectionResetError`` if the connection was lost."""
        while not self._buffer:
            if self._eof or self._closed:
                if self._error is not None:
                    raise ConnectionResetError("connection lost") from self._error
                return b""
            if self._waiter is not None:
                raise RuntimeError("two readers on one stream")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        if len(self._buffer) <= _LOW_WATER:
            self._intake.open()
        return data

    def write(self, data: bytes) -> None:
        if not self._closed and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the other side takes more. Raises ``ConnectionError`` if it is gone."""
        if self._transport.is_closing():
            raise ConnectionResetError("connection closed") from self._error
        await self._gate.passed()

    def write_eof(self) -> bool:
        if self._transport.is_closing() or not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True

    def close(self) -> None:
        """Send what was written, and close when it has arrived; nothing is read any more."""
        if self._closed:
            return
        self._closed = True
        self._buffer.clear()
        self._wake()
        if self._eof:
            self._transport.close()
            return
        self._intake.open()
        part(self._transport)


_TCP_RTO_MAX_MS = 44


def watch_over(sock: socket.socket | None) -> None:
    """Have the kernel find out within a minute that the other end is gone, though nothing is sent.

    A watch may be silent for long; without this, one whose other end lost power would be open for ever. What has been
    sent is repeated every five seconds at least, where the kernel knows how (Linux 6.15): else it waits for up to two
    minutes after a cut has healed. Sockets that a listener accepts inherit it.
    """
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, 5000)


def peer_of(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """Address and port of the other end; IPv4 in IPv6 is shown as IPv4."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "", 0
    host, port = cast("tuple[str, int]", name[:2])
    return host.removeprefix("::ffff:") if "." in host else host, port
