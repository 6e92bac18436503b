"""HTTP/2: multiplexed streams, flow control, watches, limits, endings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import h2.errors
import h2.settings
import hpack
import pytest
import uvloop
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.wire.certificates import Authority
from tests.wire.h2client import Answer, Http2Client
from tiphys.wire import http
from tiphys.wire.http import Handler, Headers, Request, Response, Sink
from tiphys.wire.http2.connection import Http2Connection
from tiphys.wire.server import Limits, Server, serve
from tiphys.wire.tls import contexts

AUTHORITY = Authority()
SERVER_PAIR = AUTHORITY.issue("localhost", server=True)

Use = Callable[[Http2Client, Server], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(handler: Handler, use: Use, limits: Limits | None = None) -> None:
        async def main() -> None:
            server = await serve(handler, "127.0.0.1", 0, tls=contexts.server_context(*SERVER_PAIR), limits=limits)
            client = await Http2Client.connect(server.port, contexts.client_context(AUTHORITY.pem))
            async with asyncio.timeout(60):
                await use(client, server)
                client.close()
                await server.close(1)
            assert not server.connections

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def echo(request: Request) -> Response:
    assert request.headers["host"] == "localhost"
    assert request.peer.secure
    return Response(200, {"X-Method": request.method}, f"{request.path}?{request.query}|".encode() + request.body)


def test_requests_with_and_without_bodies(run) -> None:
    async def use(client: Http2Client, server: Server) -> None:
        answer = await client.get("/a%20b?x=1")
        assert (answer.status, answer.body, answer.headers["x-method"]) == (200, b"/a%20b?x=1|", "GET")
        assert "date" in answer.headers
        answer = await client.answer(client.request("/p", "POST", b"body"))
        assert answer.body == b"/p?|body"
        answer = await client.answer(client.request("/h", "HEAD"))
        assert (answer.headers["content-length"], answer.body) == ("4", b"")

    run(echo, use)


def test_header_fields_stay_out_of_the_log(run, caplog: pytest.LogCaptureFixture) -> None:
    async def use(client: Http2Client, server: Server) -> None:
        await client.answer(client.request("/", headers=(("authorization", "Bearer secret"),)))

    with caplog.at_level("DEBUG"):
        run(echo, use)
    assert "secret" not in caplog.text


def test_streams_do_not_wait_for_each_other(run) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            await released.wait()
        elif request.path == "/release":
            released.set()
        return Response(200, {}, request.path.encode())

    released = asyncio.Event()

    async def use(client: Http2Client, server: Server) -> None:
        slow = [client.request("/slow") for _ in range(50)]
        assert (await client.get("/fast")).body == b"/fast"
        assert not any(client.answers[number].ended for number in slow)
        client.request("/release")
        for number in slow:
            assert (await client.answer(number)).body == b"/slow"

    run(handler, use)


def test_large_answers_respect_the_windows(run) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, {}, bytes(5_000_000) if request.path == "/big" else b"small")

    async def use(client: Http2Client, server: Server) -> None:
        client.reading = False
        big = client.request("/big")
        await client.until(lambda: len(client.answers[big].body) == 65535)  # what the window allows, and no more
        small = client.request("/small")
        await client.until(lambda: ":status" in client.answers[small].headers)
        assert client.answers[small].body == b""
        client.reading = True
        client.protocol.acknowledge_received_data(65535, big)
        client.flush()
        assert len((await client.answer(big)).body) == 5_000_000
        assert (await client.answer(small)).body == b"small"

    run(handler, use)


def test_watches_share_a_connection_and_end_when_reset(run) -> None:
    sinks: dict[str, Sink] = {}
    ended: list[str] = []

    async def handler(request: Request) -> Response:
        async def watch(sink: Sink) -> None:
            sinks[request.path] = sink
            sink.write(b"first")
            try:
                await sink.wait_closed()
            finally:
                ended.append(request.path)

        return Response(200, {"Content-Type": "application/json"}, watch)

    async def use(client: Http2Client, server: Server) -> None:
        one, two = client.request("/1"), client.request("/2")
        await client.until(lambda: client.answers[one].body == client.answers[two].body == b"first")
        assert "content-length" not in client.answers[one].headers
        for _ in range(3):
            sinks["/1"].write(b"-more")
        await client.until(lambda: client.answers[one].body == b"first-more-more-more")
        client.protocol.reset_stream(one, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        while not ended:
            await asyncio.sleep(0.005)
        assert ended == ["/1"]
        assert sinks["/1"].closed
        assert not sinks["/2"].closed
        client.close()
        await sinks["/2"].wait_closed()

    run(handler, use)


def test_a_broken_stream_is_reset(run) -> None:
    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"part")
            raise RuntimeError("no")

        if request.path == "/handler":
            raise RuntimeError("no")
        return Response(200, {}, body)

    async def use(client: Http2Client, server: Server) -> None:
        answer = await client.get("/stream")
        assert answer.reset == h2.errors.ErrorCodes.INTERNAL_ERROR
        assert (await client.get("/handler")).status == 500

    run(handler, use)


def test_slow_reader_holds_the_writer_back(run) -> None:
    written = 0

    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            nonlocal written
            for _ in range(500):
                sink.write(bytes(10_000))
                written += 10_000
                await sink.drain()

        return Response(200, {}, body)

    async def use(client: Http2Client, server: Server) -> None:
        client.reading = False
        number = client.request("/")
        await client.until(lambda: len(client.answers[number].body) == 65535)
        assert written < 300_000
        client.reading = True
        client.protocol.acknowledge_received_data(65535, number)
        client.flush()
        assert len((await client.answer(number)).body) == 5_000_000

    run(handler, use)


def test_limits(run) -> None:
    async def use(client: Http2Client, server: Server) -> None:
        declared = client.request("/", "POST", b"x" * 2000, (("content-length", "2000"),))
        assert (await client.answer(declared)).status == 413
        undeclared = client.request("/", "POST", b"x" * 2000)
        assert (await client.answer(undeclared)).status == 413
        fields = tuple((f"x-{number}", "1") for number in range(20))
        assert (await client.answer(client.request("/", headers=fields))).status == 431
        assert (await client.answer(client.request("/", "POST", b"x" * 1000))).status == 200

    run(echo, use, Limits(body=1000, fields=10))


def test_too_many_streams_are_refused_or_end_the_connection(run) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(3600)
        return Response(200)

    async def use(client: Http2Client, server: Server) -> None:
        # A client that ignores the setting: h2's own bookkeeping is switched off.
        client.protocol.remote_settings.update({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000})
        client.protocol.remote_settings.acknowledge()
        for _ in range(12):
            client.request("/")
        with pytest.raises(ConnectionError):
            await client.until(lambda: False)

    run(handler, use, Limits(streams=10))


def test_garbage_ends_the_connection(run) -> None:
    async def use(client: Http2Client, server: Server) -> None:
        client._writer.write(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # a window update of 0
        with pytest.raises(ConnectionError):
            await client.until(lambda: False)
        assert client.goaway

    run(echo, use)


def test_rapid_resets_end_the_connection(run) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(3600)
        return Response(200)

    async def attack(client: Http2Client) -> None:
        while True:
            for _ in range(50):
                client.protocol.reset_stream(client.request("/"))
            client.flush()
            await client._writer.drain()
            await asyncio.sleep(0)

    async def use(client: Http2Client, server: Server) -> None:
        with pytest.raises(ConnectionError):
            await attack(client)

    run(handler, use)


def test_shutdown_lets_requests_end_and_tells_watches(run) -> None:
    async def handler(request: Request) -> Response:
        async def watch(sink: Sink) -> None:
            sink.write(b"event")
            await sink.wait_closed()

        if request.path == "/watch":
            return Response(200, {}, watch)
        await asyncio.sleep(0.05)
        return Response(200, {}, b"done")

    async def use(client: Http2Client, server: Server) -> None:
        watch, slow = client.request("/watch"), client.request("/slow")
        await client.until(lambda: client.answers[watch].body == b"event")
        closing = asyncio.create_task(server.close(10))
        answers: list[Answer] = [await client.answer(watch), await client.answer(slow)]
        assert [(answer.body, answer.ended) for answer in answers] == [(b"event", True), (b"done", True)]
        assert client.goaway
        await closing

    run(handler, use)


def test_client_certificate_reaches_the_handler() -> None:
    async def handler(request: Request) -> Response:
        from cryptography import x509

        assert request.peer.certificate is not None
        return Response(
            200, {}, x509.load_der_x509_certificate(request.peer.certificate).subject.rfc4514_string().encode()
        )

    async def main() -> None:
        context = contexts.server_context(*SERVER_PAIR, client_ca=AUTHORITY.pem)
        server = await serve(handler, "127.0.0.1", 0, tls=context)
        client = await Http2Client.connect(
            server.port, contexts.client_context(AUTHORITY.pem, *AUTHORITY.issue("alice"))
        )
        assert (await client.get("/")).body == b"CN=alice"
        client.close()
        await server.close(1)

    asyncio.run(main())


# -- what a client without credentials may try


class Raw:
    """A client that sends what frames it likes, and reads only if told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())

    @classmethod
    async def connect(cls, port: int) -> Raw:
        context = contexts.client_context(AUTHORITY.pem)
        context.set_alpn_protocols(["h2"])
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost"))

    def headers(self, stream: int, block: bytes, *, end: bool = True, whole: bool = True) -> None:
        frame = HeadersFrame(stream, block)
        frame.flags |= {flag for flag, on in (("END_HEADERS", whole), ("END_STREAM", end)) if on}
        self.writer.write(frame.serialize())

    async def frames(self) -> list[Frame]:
        """All that the server sends until it closes."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65536):
                data += piece
        frames, at = [], 0
        while at + 9 <= len(data):
            frame, length = Frame.parse_frame_header(memoryview(data)[at : at + 9])
            frame.parse_body(memoryview(data)[at + 9 : at + 9 + length])
            frames.append(frame)
            at += 9 + length
        return frames


def block(*fields: tuple[str, str | bytes], method: str = "GET") -> bytes:
    pseudo = ((":method", method), (":path", "/"), (":scheme", "https"), (":authority", "localhost"))
    return hpack.Encoder().encode([*pseudo, *fields], huffman=False)


async def attacked(handler: Handler, use: Callable[[Raw, Server], Awaitable[None]], limits: Limits | None = None):
    server = await serve(handler, "127.0.0.1", 0, tls=contexts.server_context(*SERVER_PAIR), limits=limits)
    raw = await Raw.connect(server.port)
    async with asyncio.timeout(60):
        await use(raw, server)
        raw.writer.transport.abort()
        healthy = await Http2Client.connect(server.port, contexts.client_context(AUTHORITY.pem))
        assert (await healthy.get("/")).status == 200
        healthy.close()
        await server.close(1)


def test_by_chance_a_client_is_sent_to_another_connection_and_loses_no_answer() -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.01)
        return Response(200, {}, b"answer")

    async def use(raw: Raw, server: Server) -> None:
        raw.headers(1, block())
        frames = await raw.frames()
        assert [frame.last_stream_id for frame in frames if isinstance(frame, GoAwayFrame)] == [1]
        assert [frame.data for frame in frames if isinstance(frame, DataFrame)][:1] == [b"answer"]

    asyncio.run(attacked(handler, use, Limits(goaway_chance=1.0)))


def test_references_to_one_large_entry_are_not_expanded_without_end(caplog: pytest.LogCaptureFixture) -> None:
    lists: list[int] = []

    async def handler(request: Request) -> Response:
        lists.append(sum(map(len, request.headers.values())))
        return Response(200)

    async def use(raw: Raw, server: Server) -> None:
        entry = b"\x40" + b"\x01x" + b"\x7f\xd5\x1e" + b"v" * 4052  # an entry that fills the table
        raw.headers(1, block() + entry)
        references = b"\x82\x84\x87" + b"\x41\x09localhost" + b"\x40\x01x\x7f\x80\x1e" + b"v" * 3967 + b"\xbe" * 250
        raw.headers(3, references)
        for stream in range(5, 605, 2):
            raw.headers(stream, b"\x82\x84\x87" + b"\xbe" * 250)
        frames = await raw.frames()
        assert any(isinstance(frame, GoAwayFrame) for frame in frames)

    with caplog.at_level("ERROR"):
        asyncio.run(attacked(handler, use))
    assert sum(lists) < 4 * 1024 * 1024, "bytes of fields that reached the handler"
    assert not caplog.records


def test_repeated_fields_are_joined_in_linear_time() -> None:
    def copied(count: int) -> int:
        """Bytes that joining makes."""
        made = 0

        class Counting(str):
            def join(self, parts: list[str]) -> str:  # type: ignore[override]
                nonlocal made
                text = str.join(self, parts)
                made += len(text)
                return text

        http._JOINED_BY["x-counted"] = Counting(", ")
        try:
            headers = Headers.of([("x-counted", "value")] * count)
        finally:
            del http._JOINED_BY["x-counted"]
        assert headers.each("x-counted") == ["value"] * count
        return made

    assert copied(4000) <= 2.1 * copied(2000)


def test_repeated_fields_come_as_several_values() -> None:
    headers = Headers.of([("a", "1"), ("b", "x, y"), ("a", "2, 3"), ("cookie", "c=1"), ("cookie", "d=2")])
    assert (headers["a"], headers["cookie"]) == ("1, 2, 3", "c=1; d=2")
    assert headers.each("a") == headers.copy().each("a") == ["1", "2, 3"]
    assert headers.each("b") == ["x, y"]
    headers["a"] = "other"
    assert headers.each("a") == ["other"]
    del headers["a"]
    assert headers.each("a") == []


def test_heads_of_requests_that_never_end_are_bounded() -> None:
    async def use(raw: Raw, server: Server) -> None:
        for stream in range(1, 401, 2):
            whole = block(("x-long", "v" * 60_000), method="POST")
            parts = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
            raw.headers(stream, parts[0], end=False, whole=False)
            for part in parts[1:]:
                frame = ContinuationFrame(stream, part)
                if part is parts[-1]:
                    frame.flags.add("END_HEADERS")
                raw.writer.write(frame.serialize())
            await raw.writer.drain()
        raw.writer.write(PingFrame(0, b"12345678").serialize())
        await raw.reader.readuntil(b"12345678")
        (connection,) = server.connections
        assert connection._heads <= 4 * 1024 * 1024  # type: ignore[attr-defined]
        assert 0 < len(connection._streams) < 100  # type: ignore[attr-defined]

    async def handler(request: Request) -> Response:
        return Response(200)

    asyncio.run(attacked(handler, use))


@pytest.mark.parametrize(
    "frame",
    [
        PingFrame(0, b"12345678"),
        SettingsFrame(0, {4: 65535}),
        PriorityFrame(1, depends_on=3, stream_weight=5),
        WindowUpdateFrame(0, window_increment=1),
    ],
    ids=lambda frame: type(frame).__name__,
)
def test_floods_end_the_connection_and_are_not_answered_into_memory(frame: Frame, monkeypatch) -> None:
    handled: list[object] = []
    monkeypatch.setattr(
        Http2Connection,
        "_handle",
        lambda self, event, real=Http2Connection._handle: (handled.append(event), real(self, event)),
    )

    async def use(raw: Raw, server: Server) -> None:
        flood = frame.serialize() * 1000
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                raw.writer.write(flood)
                await raw.writer.drain()  # nothing is read
        for connection in server.connections:
            await asyncio.sleep(0)
            assert connection._transport.get_write_buffer_size() < 1_000_000  # type: ignore[attr-defined]
        await raw.frames()

    async def handler(request: Request) -> Response:
        return Response(200)

    asyncio.run(attacked(handler, use, Limits(idle_timeout=1000)))
    assert len(handled) < 60_000  # of 200,000: the rest is never looked at


def test_tiny_pieces_of_a_body_and_continuations_end_the_connection() -> None:
    async def tiny(raw: Raw, server: Server) -> None:
        raw.headers(1, block(method="POST"), end=False)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.writer.write(DataFrame(1, b"").serialize() * 1000)
                await raw.writer.drain()
        assert len(await raw.frames()) < 100

    async def continued(raw: Raw, server: Server) -> None:
        raw.headers(1, block(), whole=False)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                raw.writer.write(ContinuationFrame(1, b"").serialize())
                await raw.writer.drain()
        assert any(isinstance(frame, GoAwayFrame) for frame in await raw.frames())

    async def handler(request: Request) -> Response:
        return Response(200)

    for use in (tiny, continued):
        asyncio.run(attacked(handler, use))


def test_malformed_lengths_and_values_that_are_no_utf8(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def handler(request: Request) -> Response:
        seen.append(request.headers.get("x-name", ""))
        return Response(200)

    def malformed(*lengths: str) -> Callable[[Raw, Server], Awaitable[None]]:
        async def use(raw: Raw, server: Server) -> None:
            raw.headers(1, block(*(("content-length", length) for length in lengths), method="POST"), end=False)
            assert any(isinstance(frame, GoAwayFrame) for frame in await raw.frames())

        return use

    async def odd(raw: Raw, server: Server) -> None:
        raw.headers(1, block(("x-name", b"\xff\xfe")))
        raw.headers(3, block(("content-length", "0"), ("content-length", "0")))
        raw.headers(5, block(("x-name", "gr\u00fc\u00df")))
        raw.writer.write(PingFrame(0, b"12345678").serialize())
        await raw.reader.readuntil(b"12345678")

    with caplog.at_level("ERROR"):
        for use in (odd, malformed("5", "6"), malformed("+5"), malformed("five"), malformed("9" * 5000)):
            asyncio.run(attacked(handler, use))
    assert [name for name in seen if name] == ["\xff\xfe", "gr\u00fc\u00df"]
    assert not caplog.records
