"""The seam between protocol and program: a ``Handler`` takes a ``Request`` and gives a ``Response``.

The API server, the kubelet's server and the health servers are ``Handler``s. The HTTP/1.1 and HTTP/2 servers call them
for bytes from a socket; the in-process transport of tests calls the same ones directly. Clients see the same two types
from the other side, through ``Transport``.

A response's body is one of:

- ``bytes``: sent with Content-Length;
- a ``Stream``: a coroutine function that is given a ``Sink`` and writes to it until it returns (watches, logs);
- an ``Upgrade``: after the 101 answer the raw byte stream belongs to it (exec, attach, port-forward). Source: RFC 9110
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote_plus


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a connection."""

    address: str = ""
    """IP address, without the port."""
    port: int = 0
    certificate: bytes | None = None
    """The client certificate in DER; the TLS layer has verified it against the server's client CA."""
    refused_certificate: str = ""
    """What is wrong with a certificate that the client showed and that could not be verified."""
    secure: bool = False
    """Whether the bytes travel by TLS, or never leave the process."""
    identity: tuple[str, tuple[str, ...]] | None = None
    """User and groups of a caller in the same process; only the in-process transport sets it, never a socket."""


class Sink(Protocol):
    """Where a streamed body goes. ``write`` never blocks; a slow reader shows in ``buffered``."""

    def write(self, data: bytes) -> None:
        """Send one piece. Each call is delivered as soon as possible; a call after ``closed`` is dropped."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the other side."""
        ...

    async def drain(self) -> None:
        """Wait until the other side has taken most of what was written, or is gone."""
        ...

    @property
    def closed(self) -> bool:
        """Whether the other side is gone."""
        ...

    async def wait_closed(self) -> None:
        """Wait until the other side is gone."""
        ...


class ByteStream(Protocol):
    """A raw connection in both directions, as after an Upgrade."""

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes; ``b""`` at the end."""
        ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> bool:
        """Half-close: nothing more is written, the other side may continue. Whether the transport could."""
        ...

    def close(self) -> None:
        """Read and write no more; what was written still arrives."""
        ...


Stream = Callable[[Sink], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A body that takes the connection over: ``run`` owns it from the 101 answer until it returns."""

    run: Callable[[ByteStream], Awaitable[None]]


_JOINED_BY = {"cookie": "; ", "set-cookie": "\n"}
"""What joins the values of fields that a comma does not join (RFC 9110, section 5.3; RFC 9113, section 8.2.3)."""


class Headers(dict[str, str]):
    """Header fields by lower-case name. A repeated field is joined with ``, ``; ``each`` keeps the values separate."""

    _repeated: dict[str, tuple[str, list[str]]] | None = None
    """Fields that came several times: what they are joined to, and the values."""

    @classmethod
    def of(cls, fields: Sequence[tuple[str, str]]) -> Headers:
        """A message's fields as they came, names in lower case. In linear time, whatever is repeated."""
        headers = cls(fields)
        if len(headers) == len(fields):
            return headers
        every: dict[str, list[str]] = {}
        for name, value in fields:
            every.setdefault(name, []).append(value)
        headers._repeated = {}
        for name, values in every.items():
            if len(values) > 1:
                headers[name] = joined = _JOINED_BY.get(name, ", ").join(values)
                headers._repeated[name] = joined, values
        return headers

    @property
    def repeats(self) -> bool:
        """Whether a field came several times."""
        return self._repeated is not None

    def copy(self) -> Headers:
        """The same fields, those that came several times too."""
        headers = Headers(self)
        headers._repeated = None if self._repeated is None else dict(self._repeated)
        return headers

    def each(self, name: str) -> list[str]:
        """The values of a field as they came, for those whose values may hold commas."""
        value = self.get(name)
        if value is None:
            return []
        joined, values = (self._repeated or {}).get(name, ("", []))
        return list(values) if values and joined == value else [value]


@dataclass(slots=True)
class Request:
    """One HTTP request. ``path`` is percent-encoded as sent; ``query`` is the raw text after the question mark."""

    method: str
    path: str
    query: str = ""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    peer: Peer = field(default_factory=Peer)

    def parameters(self) -> dict[str, list[str]]:
        """Query parameters, decoded, each with its values in order."""
        return parse_query(self.query)


_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})").search


def parse_query(query: str) -> dict[str, list[str]]:
    """Go's reading of a query: a parameter with a semicolon or a broken escape in it is left out."""
    parameters: dict[str, list[str]] = {}
    for part in query.split("&"):
        if not part or ";" in part:
            continue
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            if _BAD_ESCAPE(part):
                continue
            name, value = unquote_plus(name), unquote_plus(value)
        parameters.setdefault(name, []).append(value)
    return parameters


@dataclass(slots=True)
class Response:
    """One HTTP response. ``headers`` maps names as they are to be sent; Content-Length and framing are added."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Stream | Upgrade = b""


Handler = Callable[[Request], Awaitable[Response]]


class BodyTooLarge(ConnectionError):
    """A body is larger than whoever reads it allows."""


class ClientResponse(Protocol):
    """A response as a client sees it: read it whole, in pieces, or take the connection over."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        ...

    async def read(self, limit: int | None = None) -> bytes:
        """The whole body. Raises ``ConnectionError`` if it ends early, ``BodyTooLarge`` if it has over ``limit`` bytes.

        What comes from outside the cluster's own components is read with a limit, or in pieces.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it arrives."""
        ...

    def upgraded(self) -> ByteStream:
        """The raw connection after a 101 answer."""
        ...

    async def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        ...


async def read_whole(answer: ClientResponse, limit: int | None) -> bytes:
    """``ClientResponse.read`` by its ``chunks``; what is too large is not read to its end."""
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.chunks():
        pieces.append(piece)
        size += len(piece)
        if limit is not None and size > limit:
            await answer.close()
            raise BodyTooLarge(f"the body is larger than {limit} bytes")
    return b"".join(pieces)


class Transport(Protocol):
    """Carries requests to one server: over sockets (``wire.client``) or by a call (``wire.inprocess``)."""

    async def send(self, request: Request, timeout: float | None = None) -> ClientResponse:
        """Send a request; returns at the response's head.

        ``timeout`` bounds the wait for the head, in seconds. Raises ``ConnectionError`` if the server cannot be
        reached or goes away, ``TimeoutError`` after ``timeout``.
        """
        ...

    async def close(self) -> None: ...
