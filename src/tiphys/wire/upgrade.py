"""Passing an Upgrade on: the request goes to another server, and if it agrees, the two connections are joined.

Source: RFC 9110, section 7.8
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.wire.client import canonical
from tiphys.wire.http import ByteStream, ClientResponse, Headers, Request, Response, Sink, Transport, Upgrade
from tiphys.wire.relay import relay
from tiphys.wire.spdy.pings import PingsAnswered

PROTOCOL_VERSION = "x-stream-protocol-version"
HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Header fields that concern one connection only (RFC 9110, section 7.6.1)."""


def is_upgrade(request: Request) -> bool:
    """Whether the client asks to change the protocol."""
    return "upgrade" in request.headers.get("connection", "").lower()


def upgrade_headers(headers: Headers) -> Headers:
    """A request's headers as they may be passed on with its Upgrade.

    The stream protocol's versions go one to a field: servers as old as containerd 1.6 do not split a list.
    """
    passed = headers.copy()
    passed.pop("content-length", None)
    if PROTOCOL_VERSION in passed:
        passed[PROTOCOL_VERSION] = "\n".join(part.strip() for part in passed[PROTOCOL_VERSION].split(","))
    return passed


async def forward_upgrade(request: Request, transport: Transport, timeout: float | None = 30.0) -> Response:
    """Send an Upgrade on, as it is (see ``upgrade_headers``), and give the other server's answer.

    A 101 joins the two connections byte for byte; any other answer is handed back as it is. Raises ConnectionError,
    TimeoutError. ``request.path`` and ``request.query`` are the target's.
    """
    answer = await transport.send(request, timeout)
    if answer.status != 101:
        return pass_on(request, answer)
    headers = {canonical(name): value for name, value in answer.headers.items()}

    async def join(client: ByteStream) -> None:
        if answer.headers.get("upgrade", "").lower() == "spdy/3.1":
            client = PingsAnswered(client)
        await relay(client, answer.upgraded())

    return Response(101, headers, Upgrade(join))


async def beginning(answer: ClientResponse, limit: int) -> bytes:
    """The first ``limit`` bytes of an answer's body; the rest is not read."""
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.chunks():
        pieces.append(piece)
        size += len(piece)
        if size >= limit:
            break
    await answer.close()
    return b"".join(pieces)[:limit]


def pass_on(
    request: Request, answer: ClientResponse, drop: frozenset[str] = frozenset(), already: Sequence[bytes] = ()
) -> Response:
    """Another server's answer as one of ours: its body is streamed as it comes, its hop-by-hop fields are dropped.

    ``already``: what was read of the body before.
    """
    dropped = HOP_BY_HOP | drop | {part.strip().lower() for part in answer.headers.get("connection", "").split(",")}
    headers = {canonical(name): value for name, value in answer.headers.items() if name not in dropped}

    async def stream(sink: Sink) -> None:
        try:
            for piece in already:
                sink.write(piece)
            async for piece in answer.chunks():
                sink.write(piece)
                await sink.drain()
                if sink.closed:
                    return
        finally:
            await answer.close()

    if request.method == "HEAD" or answer.status in (204, 304):
        return Response(answer.status, headers)
    return Response(answer.status, headers, stream)
