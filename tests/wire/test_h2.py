"""HTTP/2: multiplexed streams, flow control, watches, limits, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h2.errors
import h2.settings
import pytest
import uvloop

from tests.wire.certificates import Authority
from tests.wire.h2client import Answer, Http2Client
from tiphys.wire import tls
from tiphys.wire.http import Handler, Request, Response, Sink
from tiphys.wire.server import Limits, Server, serve

AUTHORITY = Authority()
SERVER_PAIR = AUTHORITY.issue("localhost", server=True)

Use = Callable[[Http2Client, Server], Awaitable[None]]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(handler: Handler, use: Use, limits: Limits | None = None) -> None:
        async def main() -> None:
            server = await serve(handler, "127.0.0.1", 0, tls=tls.server_context(*SERVER_PAIR), limits=limits)
            client = await Http2Client.connect(server.port, tls.client_context(AUTHORITY.pem))
            async with asyncio.timeout(20):
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
        context = tls.server_context(*SERVER_PAIR, client_ca=AUTHORITY.pem)
        server = await serve(handler, "127.0.0.1", 0, tls=context)
        client = await Http2Client.connect(server.port, tls.client_context(AUTHORITY.pem, *AUTHORITY.issue("alice")))
        assert (await client.get("/")).body == b"CN=alice"
        client.close()
        await server.close(1)

    asyncio.run(main())
