"""What a client must not send over HTTP/2, case by case from RFC 9113 and RFC 7541, against every server of ours.

Each case says which error of the stream or the connection it leads to. docs/wire.md has what h2spec says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.wire.certificates import Authority
from tiphys.wire.grpc.connection import PREFACE
from tiphys.wire.grpc.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    frame,
)
from tiphys.wire.grpc.hpack import encode
from tiphys.wire.grpc.server import GrpcServer
from tiphys.wire.http import Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts

AUTHORITY = Authority()
SERVER_PAIR = AUTHORITY.issue("localhost", server=True)

GET = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")]
POST = [(":method", "POST"), *GET[1:]]
WHOLE = END_HEADERS | END_STREAM


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, name.to_bytes(2, "big") + number(value))


def head(stream: int = 1, fields: list[tuple[str, str]] = GET, flags: int = WHOLE, more: bytes = b"") -> bytes:
    return frame(HEADERS, flags, stream, encode(fields) + more)


def without(name: str) -> list[tuple[str, str]]:
    return [field for field in GET if field[0] != name]


OPEN = head(1, POST, END_HEADERS)
"""A request whose body is still to come."""
CASES: dict[str, tuple[bytes, set[int]]] = {
    # 4: frames
    "a frame that is too large": (OPEN + frame(DATA, 0, 1, bytes(16385)), {FRAME_SIZE_ERROR}),
    "a block that cannot be decoded": (
        frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff\xff"),
        {COMPRESSION_ERROR, PROTOCOL_ERROR},
    ),
    "another frame within a block": (
        frame(HEADERS, END_STREAM, 1, encode(GET)) + frame(PRIORITY, 0, 1, number(0) + b"\x10"),
        {PROTOCOL_ERROR},
    ),
    "a block of another stream within a block": (
        frame(HEADERS, END_STREAM, 1, encode(GET)) + head(3),
        {PROTOCOL_ERROR},
    ),
    # 5.1: states
    "data before a request": (frame(DATA, END_STREAM, 1, b"x"), {PROTOCOL_ERROR}),
    "a reset before a request": (frame(RST_STREAM, 0, 1, number(8)), {PROTOCOL_ERROR}),
    "a window before a request": (frame(WINDOW_UPDATE, 0, 1, number(100)), {PROTOCOL_ERROR}),
    "a continuation before a request": (frame(CONTINUATION, END_HEADERS, 1, encode(GET)), {PROTOCOL_ERROR}),
    "data after the end": (head() + frame(DATA, END_STREAM, 1, b"x"), {STREAM_CLOSED}),
    "fields after the end": (head() + head(), {STREAM_CLOSED}),
    "a continuation after the end": (
        head() + frame(CONTINUATION, END_HEADERS, 1, encode(GET)),
        {PROTOCOL_ERROR, STREAM_CLOSED},
    ),
    "data after a reset": (OPEN + frame(RST_STREAM, 0, 1, number(8)) + frame(DATA, 0, 1, b"x"), {STREAM_CLOSED}),
    "fields after a reset": (OPEN + frame(RST_STREAM, 0, 1, number(8)) + head(), {STREAM_CLOSED}),
    "a stream with an even number": (head(2), {PROTOCOL_ERROR}),
    "a stream with a smaller number": (head(5) + head(3), {PROTOCOL_ERROR, STREAM_CLOSED}),
    # 5.3: priority
    "a request that depends on itself": (
        frame(HEADERS, WHOLE | PRIORITIZED, 1, number(1) + b"\x10" + encode(GET)),
        {PROTOCOL_ERROR},
    ),
    "a priority that depends on itself": (OPEN + frame(PRIORITY, 0, 1, number(1) + b"\x10"), {PROTOCOL_ERROR}),
    # 6: each kind of frame
    "data for stream 0": (frame(DATA, 0, 0, b"x"), {PROTOCOL_ERROR}),
    "more padding than data": (OPEN + frame(DATA, PADDED | END_STREAM, 1, b"\x06abc"), {PROTOCOL_ERROR}),
    "fields for stream 0": (head(0), {PROTOCOL_ERROR}),
    "more padding than fields": (frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + encode(GET)), {PROTOCOL_ERROR}),
    "a priority for stream 0": (frame(PRIORITY, 0, 0, number(0) + b"\x10"), {PROTOCOL_ERROR}),
    "a short priority": (OPEN + frame(PRIORITY, 0, 1, number(0)), {FRAME_SIZE_ERROR}),
    "a reset for stream 0": (frame(RST_STREAM, 0, 0, number(8)), {PROTOCOL_ERROR}),
    "a short reset": (OPEN + frame(RST_STREAM, 0, 1, b"\0\0\0"), {FRAME_SIZE_ERROR}),
    "settings in an acknowledgement": (frame(SETTINGS, ACK, 0, bytes(6)), {FRAME_SIZE_ERROR, PROTOCOL_ERROR}),
    "settings for a stream": (frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64"), {PROTOCOL_ERROR}),
    "settings of a wrong size": (frame(SETTINGS, 0, 0, b"\0\3\0"), {FRAME_SIZE_ERROR}),
    "a setting of push": (setting(2, 2), {PROTOCOL_ERROR}),
    "a setting of windows": (setting(4, 1 << 31), {FLOW_CONTROL_ERROR}),
    "frames that are too small": (setting(5, 16383), {PROTOCOL_ERROR}),
    "frames that are too large": (setting(5, 1 << 24), {PROTOCOL_ERROR}),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + encode(GET)), {PROTOCOL_ERROR}),
    "a ping for a stream": (frame(PING, 0, 1, bytes(8)), {PROTOCOL_ERROR}),
    "a short ping": (frame(PING, 0, 0, bytes(6)), {FRAME_SIZE_ERROR}),
    "a goodbye for a stream": (frame(GOAWAY, 0, 1, bytes(8)), {PROTOCOL_ERROR}),
    "no more window": (frame(WINDOW_UPDATE, 0, 0, number(0)), {PROTOCOL_ERROR}),
    "no more window for a stream": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(0)), {PROTOCOL_ERROR}),
    "a short window": (frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), {FRAME_SIZE_ERROR}),
    "too much window": (frame(WINDOW_UPDATE, 0, 0, number(MAX_WINDOW)) * 2, {FLOW_CONTROL_ERROR}),
    "too much window for a stream": (OPEN + frame(WINDOW_UPDATE, 0, 1, number(MAX_WINDOW)), {FLOW_CONTROL_ERROR}),
    "windows that settings make too large": (
        OPEN + frame(WINDOW_UPDATE, 0, 1, number(MAX_WINDOW - 65535)) + setting(4, 65536),
        {FLOW_CONTROL_ERROR},
    ),
    # 8: requests
    "trailers that do not end": (OPEN + frame(HEADERS, END_HEADERS, 1, encode([("x", "y")])), {PROTOCOL_ERROR}),
    "trailers with a path": (OPEN + head(1, [(":path", "/")]), {PROTOCOL_ERROR}),
    "capital letters": (head(1, [*GET, ("X-Name", "y")]), {PROTOCOL_ERROR}),
    "an unknown pseudo field": (head(1, [*GET, (":name", "y")]), {PROTOCOL_ERROR}),
    "a field of responses": (head(1, [*GET, (":status", "200")]), {PROTOCOL_ERROR}),
    "a pseudo field after others": (head(1, [*without(":path"), ("x", "y"), (":path", "/")]), {PROTOCOL_ERROR}),
    "a field of the connection": (head(1, [*GET, ("connection", "keep-alive")]), {PROTOCOL_ERROR}),
    "other encodings of trailers": (head(1, [*GET, ("te", "trailers, deflate")]), {PROTOCOL_ERROR}),
    "an empty path": (head(1, [*without(":path"), (":path", "")]), {PROTOCOL_ERROR}),
    "no method": (head(1, without(":method")), {PROTOCOL_ERROR}),
    "no scheme": (head(1, without(":scheme")), {PROTOCOL_ERROR}),
    "no path": (head(1, without(":path")), {PROTOCOL_ERROR}),
    "two methods": (head(1, [GET[0], *GET]), {PROTOCOL_ERROR}),
    "two schemes": (head(1, [GET[1], *GET]), {PROTOCOL_ERROR}),
    "two paths": (head(1, [GET[2], *GET]), {PROTOCOL_ERROR}),
    "another length than declared": (
        head(1, [*POST, ("content-length", "1")], END_HEADERS) + frame(DATA, END_STREAM, 1, b"xyz"),
        {PROTOCOL_ERROR},
    ),
    "another length in pieces": (
        head(1, [*POST, ("content-length", "1")], END_HEADERS)
        + frame(DATA, 0, 1, b"x")
        + frame(DATA, END_STREAM, 1, b"yz"),
        {PROTOCOL_ERROR},
    ),
    "lengths that disagree": (
        head(1, [*POST, ("content-length", "1"), ("content-length", "2")], END_HEADERS),
        {PROTOCOL_ERROR},
    ),
    # RFC 7541
    "an index that nothing has": (head(more=b"\xc6"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    "index 0": (head(more=b"\x80"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    "a table's size at the end": (head(more=b"\x20"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    "a table that is too large": (
        frame(HEADERS, WHOLE, 1, b"\x3f\xe2\x1f" + encode(GET)),
        {COMPRESSION_ERROR, PROTOCOL_ERROR},
    ),
    "padding of zeros": (head(more=b"\x00\x01x\x81\x18"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    "too much padding": (head(more=b"\x00\x01x\x82\x1f\xff"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    "the end mark in a string": (head(more=b"\x00\x01x\x84\xff\xff\xff\xff"), {COMPRESSION_ERROR, PROTOCOL_ERROR}),
    # 10.5: too much
    "continuations without end": (
        frame(HEADERS, END_STREAM, 1, encode(GET)) + frame(CONTINUATION, 0, 1) * 20_000,
        {PROTOCOL_ERROR, ENHANCE_YOUR_CALM},
    ),
    "a block that is too long": (
        frame(HEADERS, END_STREAM, 1, encode(GET)) + frame(CONTINUATION, 0, 1, bytes(16384)) * 80,
        {PROTOCOL_ERROR, ENHANCE_YOUR_CALM},
    ),
    "pings without end": (frame(PING, 0, 0, bytes(8)) * 40_000, {ENHANCE_YOUR_CALM}),
    "settings without end": (frame(SETTINGS, 0, 0) * 40_000, {ENHANCE_YOUR_CALM}),
    "requests that are taken back": (
        b"".join(
            head(stream, POST, END_HEADERS) + frame(RST_STREAM, 0, stream, number(8)) for stream in range(1, 9001, 2)
        ),
        {ENHANCE_YOUR_CALM},
    ),
}

FINE: dict[str, bytes] = {
    "a request": head(),
    "padding and priority": frame(
        HEADERS, WHOLE | PADDED | PRIORITIZED, 1, b"\x03" + number(0) + b"\x10" + encode(GET) + bytes(3)
    ),
    "a block in pieces": frame(HEADERS, END_STREAM, 1, encode(GET)[:5])
    + frame(CONTINUATION, 0, 1, encode(GET)[5:9])
    + frame(CONTINUATION, END_HEADERS, 1, encode(GET)[9:]),
    "trailers": OPEN + frame(DATA, 0, 1, b"x") + head(1, [("x", "y")]),
    "an unknown kind of frame": frame(0x16, 0xFF, 0, b"12345678") + frame(0x16, 0, 7, b"") + head(),
    "an unknown setting": setting(0xFF, 1) + head(),
    "a priority before a request": frame(PRIORITY, 0, 3, number(0) + b"\x10") + head(),
    "the length as declared": head(1, [*POST, ("content-length", "3")], END_HEADERS)
    + frame(DATA, END_STREAM, 1, b"xyz"),
    "a window to the most": frame(WINDOW_UPDATE, 0, 0, number(MAX_WINDOW - 65535)) + head(),
}


async def handler(request: Request) -> Response:
    return Response(200, {"Content-Type": "text/plain"}, b"fine")


@contextlib.asynccontextmanager
async def listening(kind: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    if kind == "grpc":
        grpc = GrpcServer({}, status_of=lambda _: None, handler=handler)
        reader, writer = await asyncio.open_connection("127.0.0.1", await grpc.listen("127.0.0.1", 0))
    else:
        server = await serve(handler, "127.0.0.1", 0, tls=contexts.server_context(*SERVER_PAIR))
        context = contexts.client_context(AUTHORITY.pem)
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
        )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await (grpc.stop(0.1) if kind == "grpc" else server.close(0.1))


async def frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, int, bytes]]:
    """Kind, stream and payload of each frame, until the server closes."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            start = await reader.readexactly(9)
            yield start[3], int.from_bytes(start[5:], "big"), await reader.readexactly(int.from_bytes(start[:3], "big"))


@pytest.mark.parametrize("kind", ["api", "grpc"])
@pytest.mark.parametrize("case", CASES)
def test_errors(kind: str, case: str) -> None:
    sent, codes = CASES[case]

    async def main() -> None:
        async with listening(kind) as (reader, writer), asyncio.timeout(60):
            writer.write(PREFACE + frame(SETTINGS, 0, 0) + sent)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            async for what, _, payload in frames(reader):
                if what == GOAWAY:
                    assert int.from_bytes(payload[4:8], "big") in codes
                    return
                if what == RST_STREAM and int.from_bytes(payload, "big") in codes:
                    return
            # closed without a word, as any error of the connection may be

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["api", "grpc"])
@pytest.mark.parametrize("case", FINE)
def test_what_is_allowed_is_answered(kind: str, case: str) -> None:
    async def main() -> None:
        async with listening(kind) as (reader, writer), asyncio.timeout(60):
            writer.write(PREFACE + frame(SETTINGS, 0, 0) + FINE[case])
            async for what, stream, payload in frames(reader):
                assert what not in (GOAWAY, RST_STREAM)
                if what == DATA:
                    assert (stream, payload) == (1, b"fine")
                    return
            raise AssertionError("closed")

    asyncio.run(main())
