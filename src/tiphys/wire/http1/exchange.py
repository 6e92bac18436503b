"""What an HTTP/1.1 connection is doing: its stages, the requests in its queue, and the sink of a streamed answer.

Source: RFC 9110, RFC 9112
"""

from __future__ import annotations

import asyncio
import enum
from typing import NamedTuple, Protocol

from tiphys.wire.http import Request, Response
from tiphys.wire.http1.framing import ChunkFramer

_framer = ChunkFramer()


class Stage(enum.Enum):
    """What the next bytes from the client are."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    UNDECIDED = enum.auto()
    """An Upgrade was requested and not yet answered: kept aside."""
    RAW = enum.auto()
    """They belong to an Upgrade."""
    REFUSED = enum.auto()
    """Read and dropped: the connection ends."""


class Turn(enum.Enum):
    """Whether a request is being served."""

    FREE = enum.auto()
    INLINE = enum.auto()
    """Within the turn of the loop in which it was begun."""
    AWAY = enum.auto()
    """It waits for something, as a task."""


class Mode(enum.Enum):
    """How a queued request is to be answered."""

    PLAIN = enum.auto()
    UPGRADE = enum.auto()
    OVERSIZED = enum.auto()
    REFUSED = enum.auto()
    """By the prepared response; the parser has given up."""


class Exchange(NamedTuple):
    request: Request
    keep_alive: bool
    http10: bool
    mode: Mode
    refusal: Response | None = None


class Pieces(Protocol):
    """Where a sink's pieces go: the connection, as far as a sink knows it."""

    @property
    def buffered(self) -> int: ...

    def queue_piece(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class ChunkSink:
    """A streamed body's ``Sink``: pieces become chunks, and go out together at the end of the loop's turn."""

    __slots__ = ("_chunked", "_connection", "_ended", "_waiters")

    def __init__(self, connection: Pieces, *, chunked: bool) -> None:
        self._connection = connection
        self._chunked = chunked
        self._ended = False
        self._waiters: list[asyncio.Future[None]] = []

    def write(self, data: bytes) -> None:
        if data and not self._ended:
            self._connection.queue_piece(_framer.frame(data) if self._chunked else data)

    @property
    def buffered(self) -> int:
        return self._connection.buffered

    async def drain(self) -> None:
        await self._connection.drain()

    @property
    def closed(self) -> bool:
        return self._ended

    async def wait_closed(self) -> None:
        if self._ended:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def end(self) -> None:
        """The other side is gone, or the server is about to be."""
        self._ended = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
