"""Byte streams and sinks within one process, with the same bounds as sockets. No real I/O: works on virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024


class Signal:
    """Wakes all that wait, when the state they look at has changed."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class MemorySink:
    """A streamed body's ``Sink`` and the queue that its reader takes from."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._changed = Signal()
        self._gone = Signal()
        self._finished = False
        self._error: ConnectionError | None = None
        self._buffered = 0
        self._closed = False

    # -- Sink

    def write(self, data: bytes) -> None:
        if data and not self._closed:
            self._pieces.append(data)
            self._buffered += len(data)
            self._changed.notify()

    @property
    def buffered(self) -> int:
        return self._buffered

    async def drain(self) -> None:
        if self._buffered > _HIGH_WATER:
            while self._buffered > _LOW_WATER and not self._closed:
                await self._changed.wait()

    @property
    def closed(self) -> bool:
        return self._closed

    async def wait_closed(self) -> None:
        while not self._closed:
            await self._gone.wait()

    # -- the other side

    def finish(self, error: ConnectionError | None = None) -> None:
        """The body is complete, or ``error`` cut it short."""
        self._finished = True
        self._error = error
        self._changed.notify()

    def abandon(self) -> None:
        """Nobody reads any more."""
        self._closed = True
        self._pieces.clear()
        self._buffered = 0
        self._changed.notify()
        self._gone.notify()

    async def take(self) -> AsyncIterator[bytes]:
        """What was written, as it comes. Raises ConnectionError if the body was cut short."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._buffered -= len(piece)
                if self._buffered <= _LOW_WATER:
                    self._changed.notify()
                yield piece
            if self._finished or self._closed:
                if self._error is not None:
                    raise self._error
                return
            await self._changed.wait()


class _Pipe:
    """One direction of a pair."""

    __slots__ = ("buffer", "changed", "eof", "reader_gone")

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.changed = Signal()
        self.eof = False
        self.reader_gone = False


class MemoryStream:
    """One end of a ``ByteStream`` pair. Made by ``stream_pair``."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self, limit: int = 65536) -> bytes:
        pipe = self._incoming
        while not pipe.buffer and not pipe.eof and not pipe.reader_gone:
            await pipe.changed.wait()
        data = bytes(pipe.buffer[:limit])
        del pipe.buffer[:limit]
        if data:
            pipe.changed.notify()
        return data

    def write(self, data: bytes) -> None:
        pipe = self._outgoing
        if data and not pipe.eof and not pipe.reader_gone:
            pipe.buffer += data
            pipe.changed.notify()

    async def drain(self) -> None:
        """Wait until the other side takes more. Raises ConnectionError if it is gone."""
        pipe = self._outgoing
        if len(pipe.buffer) > _HIGH_WATER:
            while len(pipe.buffer) > _LOW_WATER and not pipe.reader_gone:
                await pipe.changed.wait()
        if pipe.reader_gone:
            raise ConnectionResetError("connection closed")

    def write_eof(self) -> bool:
        self._outgoing.eof = True
        self._outgoing.changed.notify()
        return True

    def close(self) -> None:
        self.write_eof()
        self._incoming.reader_gone = True
        self._incoming.buffer.clear()
        self._incoming.changed.notify()


def stream_pair() -> tuple[MemoryStream, MemoryStream]:
    """Two connected byte streams: what one writes, the other reads."""
    there, back = _Pipe(), _Pipe()
    return MemoryStream(back, there), MemoryStream(there, back)
