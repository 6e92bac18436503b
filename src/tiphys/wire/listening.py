"""The seam between a listener and its connections: what each may ask of the other, and the bounds on a client.

``server.Server`` is the ``Host`` of every ``Connection``; protocols (HTTP/1.1, HTTP/2) know only this.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Protocol

from tiphys.wire.http import Handler


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one client may use. Sizes in bytes, times in seconds; upstream's values if it has one."""

    body: int = 3 * 1024 * 1024 + 64 * 1024
    """A request's body; the API's own limit of 3 MiB is below, so that it answers with a Status."""
    headers: int = 1024 * 1024
    fields: int = 1000
    """Number of header fields."""
    pipeline: int = 32
    """Requests that wait on one connection; after that its bytes stay in the kernel."""
    handshake_timeout: float = 10.0
    header_timeout: float = 32.0
    body_timeout: float = 60.0
    idle_timeout: float = 90.0
    stall_timeout: float = 60.0
    """How long a client may take no byte of a whole body (a list, not a watch)."""
    streams: int = 250
    """Concurrent streams of one HTTP/2 connection."""
    goaway_chance: float = 0.0
    """For how many requests of HTTP/2, out of one, their client is sent to another connection."""


class Connection(Protocol):
    """What the server asks of a connection, whatever its protocol."""

    def flush(self) -> None: ...

    def sweep(self, now: float) -> None:
        """Close if a timeout has passed."""
        ...

    def shut_down(self) -> None:
        """Close if idle, else as soon as what is in flight is done; streams are notified."""
        ...

    def abort(self) -> None: ...

    def tasks(self) -> set[asyncio.Task[None]]: ...


class Host(Protocol):
    """What a connection asks of the server that it belongs to."""

    handler: Handler
    oversized: Handler
    """Answers requests whose body is too large."""
    limits: Limits
    secure: bool
    closing: bool
    loop: asyncio.AbstractEventLoop
    now: float
    """The loop's time as of the last sweep."""
    chance: Random

    def add(self, connection: Connection) -> None: ...

    def remove(self, connection: Connection) -> None: ...

    def flush_soon(self, connection: Connection) -> None:
        """Call the connection's ``flush`` at the end of this turn of the loop."""
        ...

    def flush_stream_soon(self, connection: Connection) -> None:
        """As ``flush_soon``, for a piece of a stream, which may be held back for some milliseconds."""
        ...

    def date(self) -> bytes:
        """The Date field, as a line."""
        ...
