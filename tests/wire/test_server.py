"""HTTP/1.1 as it is on the wire: framing, limits, timeouts, endings, and clients that mean harm."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import random
import threading
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from tiphys.wire.http import ByteStream, Handler, Request, Response, Sink, Upgrade
from tiphys.wire.server import Limits, Server, serve

Use = Callable[[Server], Awaitable[None]]
HOST = b"Host: x\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(handler: Handler, use: Use, limits: Limits | None = None) -> None:
        async def main() -> None:
            server = await serve(handler, "127.0.0.1", 0, limits=limits)
            async with asyncio.timeout(60):
                await use(server)
                await server.close(1)
            assert not server.connections

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


async def echo(request: Request) -> Response:
    text = f"{request.method} {request.path} {request.query} {len(request.body)}"
    return Response(200, {"Content-Type": "text/plain"}, text.encode())


async def talk(server: Server, *pieces: bytes, eof: bool = False) -> bytes:
    """Send bytes, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    received = b""
    with contextlib.suppress(ConnectionError):
        reading = asyncio.ensure_future(reader.read())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        if eof:
            writer.write_eof()
        received = await reading
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return received


def bodies(stream: bytes) -> list[bytes]:
    """The bodies of answers that all carry a Content-Length."""
    found = []
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        found.append(stream[:length])
        stream = stream[length:]
    return found


CLOSE = b"Connection: close\r\n"


def test_pipelined_requests_are_answered_in_order(run) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            await asyncio.sleep(0.02)
        return Response(200, {}, request.path.encode())

    async def use(server: Server) -> None:
        paths = [b"/1", b"/slow", b"/2", b"/3", b"/slow", b"/4"]
        requests = b"".join(b"GET %b HTTP/1.1\r\n%b\r\n" % (path, HOST) for path in paths)
        requests += b"GET /last HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
        assert bodies(await talk(server, requests)) == [*paths, b"/last"]
        cut = [requests[at : at + 7] for at in range(0, len(requests), 7)]
        assert bodies(await talk(server, *cut)) == [*paths, b"/last"]

    run(handler, use)


def test_a_long_pipeline_is_held_back_and_answered(run) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0)
        return Response(200, {}, request.path.encode())

    async def use(server: Server) -> None:
        requests = [b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(2000)]
        last = b"GET /last HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
        assert bodies(await talk(server, b"".join(requests) + last))[-2:] == [b"/1999", b"/last"]

    run(handler, use)


BAD = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "both framings": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    "negative length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\n", 400),
    "length overflow": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    "other coding": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "two codings": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "coding twice": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunk size": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "chunk end": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + b"Host: y\r\n\r\n", 400),
    "space in name": (b"GET / HTTP/1.1\r\n" + HOST + b"Bad Name: x\r\n\r\n", 400),
    "folded": (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
    "nul": (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n", 400),
    "bare lf smuggling": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "version": (b"GET / HTTP/3.7\r\n" + HOST + b"\r\n", 400),
    "method": (b"GET\x7f / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "expectation": (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: wonders\r\n\r\n", 417),
    "fields": (b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"a%d: 1\r\n" % n for n in range(1100)) + b"\r\n", 431),
    "one long field": (b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "long target": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "declared body": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100001\r\n\r\n", 413),
    "body": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n20000\r\n" + b"x" * 0x20000, 413),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_and_the_connection_ends(run, name: str) -> None:
    data, status = BAD[name]

    async def use(server: Server) -> None:
        good = b"GET /before HTTP/1.1\r\n" + HOST + b"\r\n"
        answer = await talk(server, good + data + good)
        before, _, refusal = answer.partition(b"GET /before  0")
        assert before.startswith(b"HTTP/1.1 200 OK")
        assert refusal.startswith(b"HTTP/1.1 %d " % status), refusal
        assert b"Connection: close" in refusal
        assert refusal.count(b"HTTP/1.1 ") == 1  # what follows is not taken for a request

    run(echo, use, Limits(body=100_000, headers=65536))


def test_repeated_fields_are_several_values(run) -> None:
    seen: list[list[str]] = []

    async def handler(request: Request) -> Response:
        seen.extend(request.headers.each(name) for name in ("impersonate-group", "x-remote-group", "cookie"))
        return Response(200)

    async def use(server: Server) -> None:
        fields = b"Impersonate-Group: a, b\r\nX-Remote-Group: x\r\nimpersonate-group: c\r\nCookie: d\r\nCookie: e\r\n"
        await talk(server, b"GET / HTTP/1.1\r\n" + HOST + fields + b"Connection: close\r\n\r\n")

    run(handler, use)
    assert seen == [["a, b", "c"], ["x"], ["d", "e"]]


def test_clients_that_say_nothing_or_too_slowly_are_cut(run) -> None:
    async def use(server: Server) -> None:
        assert await talk(server) == b""
        assert await talk(server, b"GET / HT") == b""
        assert await talk(server, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc") == b""
        kept = await talk(server, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert kept.endswith(b"GET /  0")

    run(echo, use, Limits(header_timeout=0.1, body_timeout=0.1, idle_timeout=0.1))


def test_a_trickle_of_header_bytes_does_not_extend_the_timeout(run) -> None:
    async def use(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        reading = asyncio.create_task(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while not reading.done():
                writer.write(b"a: b\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            assert await reading == b""
        writer.close()

    run(echo, use, Limits(header_timeout=0.2))


def test_a_client_that_takes_nothing_is_cut(run) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, {}, bytes(20_000_000))

    async def use(server: Server) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        while not server.connections:
            await asyncio.sleep(0.005)
        while server.connections:
            await asyncio.sleep(0.005)
        writer.close()

    run(handler, use, Limits(stall_timeout=0.2))


def test_http_1_0(run) -> None:
    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"streamed")

        return Response(200, {}, body if request.path == "/stream" else b"whole")

    async def use(server: Server) -> None:
        answer = await talk(server, b"GET / HTTP/1.0\r\n\r\n")
        assert b"Connection: close" in answer
        assert answer.endswith(b"\r\n\r\nwhole")
        answer = await talk(server, b"GET /stream HTTP/1.0\r\n\r\n")
        assert b"chunked" not in answer
        assert answer.endswith(b"\r\n\r\nstreamed")
        kept = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        answer = await talk(server, kept + b"GET / HTTP/1.0\r\n\r\n")
        assert answer.count(b"whole") == 2
        assert b"Connection: keep-alive" in answer

    run(handler, use)


def test_half_closed_clients_get_what_is_ready(run) -> None:
    async def use(server: Server) -> None:
        one = b"GET /%d HTTP/1.1\r\n" + HOST + b"\r\n"
        answer = await talk(server, b"".join(one % number for number in range(3)), eof=True)
        assert bodies(answer) == [b"GET /0  0", b"GET /1  0", b"GET /2  0"]
        assert await talk(server, b"GET / HT", eof=True) == b""

    run(echo, use)


def test_hanging_up_cancels_the_handler(run) -> None:
    async def handler(request: Request) -> Response:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()
        return Response(200)

    started, cancelled = asyncio.Event(), asyncio.Event()

    async def use(server: Server) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await started.wait()
        writer.close()
        await cancelled.wait()

    run(handler, use)


def test_expect_continue(run) -> None:
    async def use(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"PUT / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: %d\r\n"
        writer.write(head % 5 + CLOSE + b"\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.read()).endswith(b"PUT /  5")
        writer.close()
        answer = await talk(server, head % 10_000_000 + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 413 ")  # without asking for the body

    run(echo, use)


def test_forms_of_the_target(run) -> None:
    async def use(server: Server) -> None:
        targets = [b"/a%2Fb?x=%20&y", b"http://h:1/p?q", b"*", b"/\xc3\xbc"]
        requests = b"".join(b"OPTIONS %b HTTP/1.1\r\n%b\r\n" % (target, HOST) for target in targets)
        found = bodies(await talk(server, requests, eof=True))
        assert found[:3] == [b"OPTIONS /a%2Fb x=%20&y 0", b"OPTIONS /p q 0", b"OPTIONS *  0"]

    run(echo, use)


def test_headers_cannot_be_injected_and_repeated_fields_can_be_sent(run) -> None:
    async def handler(request: Request) -> Response:
        return Response(204, {"Warning": 'a\r\nSet-Cookie: x\n\n"b"', "ü": "ö"})

    async def use(server: Server) -> None:
        answer = await talk(server, b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        lines = answer.split(b"\r\n")
        assert lines[:4] == [b"HTTP/1.1 204 No Content", b"Warning: a", b"Warning: Set-Cookie: x", b"Warning: "]
        assert b"Content-Length" not in answer

    run(handler, use)


def test_streams_are_chunked_and_keep_the_connection(run) -> None:
    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"one")
            sink.write(b"")
            sink.write(b"twotwotwotwotwotwo")
            await asyncio.sleep(0)
            sink.write(b"three")

        return Response(200, {}, body)

    async def use(server: Server) -> None:
        one = b"GET / HTTP/1.1\r\n" + HOST
        answer = await talk(server, one + b"\r\n" + one + CLOSE + b"\r\n")
        chunks = b"3\r\none\r\n12\r\ntwotwotwotwotwotwo\r\n5\r\nthree\r\n0\r\n\r\n"
        assert answer.count(b"\r\n\r\n" + chunks) == 2

    run(handler, use)


def test_upgrade_takes_early_bytes_and_a_declined_one_goes_on_as_http(run) -> None:
    async def handler(request: Request) -> Response:
        async def shout(stream: ByteStream) -> None:
            while data := await stream.read():
                stream.write(data.upper())
            stream.close()

        if request.path == "/yes":
            return Response(101, {"Upgrade": "shout"}, Upgrade(shout))
        return await echo(request)

    async def use(server: Server) -> None:
        upgrade = b"GET /%b HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: shout\r\n\r\n"
        plain = b"GET /plain HTTP/1.1\r\n" + HOST + b"\r\n"
        answer = await talk(server, upgrade % b"no" + plain + upgrade % b"yes" + b"early", b"late", eof=True)
        declined, _, rest = answer.partition(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert bodies(declined) == [b"GET /no  0", b"GET /plain  0"]
        head, _, raw = rest.partition(b"\r\n\r\n")
        assert b"Connection: Upgrade" in head
        assert raw == b"EARLYLATE"

    run(handler, use)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_an_upgrade_with_a_body_is_served_as_a_plain_request(run, framing: bytes) -> None:
    """Java's HTTP client offers h2c with every request on a plain connection."""

    async def use(server: Server) -> None:
        request = b"POST /x HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + framing
        after = b"GET /after HTTP/1.1\r\n" + HOST + b"\r\n"
        assert bodies(await talk(server, request + after, eof=True)) == [b"POST /x  5", b"GET /after  0"]
        cut = [bytes((byte,)) for byte in request + after]
        assert bodies(await talk(server, *cut, eof=True)) == [b"POST /x  5", b"GET /after  0"]

    run(echo, use)


def test_shutdown(run) -> None:
    """Idle connections close at once, requests in flight end, streams are told, the rest is cut after the grace."""

    async def handler(request: Request) -> Response:
        async def watch(sink: Sink) -> None:
            sink.write(b"event")
            await sink.wait_closed()

        async def for_ever(stream: ByteStream) -> None:
            await asyncio.sleep(3600)

        if request.path == "/watch":
            return Response(200, {}, watch)
        if request.path == "/upgrade":
            return Response(101, {"Upgrade": "x"}, Upgrade(for_ever))
        if request.path == "/idle":
            return Response(200)
        await asyncio.sleep(0.1)
        return Response(200, {}, b"done")

    async def use(server: Server) -> None:
        async def one(path: bytes, extra: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path, HOST, extra))
            return reader, writer

        idle, watch, slow = await one(b"/idle"), await one(b"/watch"), await one(b"/slow")
        upgraded = await one(b"/upgrade", b"Connection: upgrade\r\nUpgrade: x\r\n")
        await idle[0].readuntil(b"\r\n\r\n")
        await watch[0].readuntil(b"event\r\n")
        await upgraded[0].readuntil(b"\r\n\r\n")
        closing = asyncio.create_task(server.close(0.5))
        assert await idle[0].read() == b""
        assert await watch[0].read() == b"0\r\n\r\n"
        answer = await slow[0].read()
        assert b"Connection: close" in answer
        assert answer.endswith(b"done")
        assert not closing.done()
        with contextlib.suppress(ConnectionResetError):
            assert await upgraded[0].read() == b""
        await closing
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", server.port if server.sockets else 1)
        for _, writer in (idle, watch, slow, upgraded):
            writer.close()

    run(handler, use)


def test_http_client_of_the_standard_library() -> None:
    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            for _ in range(3):
                sink.write(b"x" * 1000)
                await sink.drain()

        return Response(200, {}, body) if request.path == "/stream" else await echo(request)

    def client(port: int, found: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for method, path, body in (("GET", "/a", None), ("POST", "/b", b"z" * 100_000), ("GET", "/stream", None)):
            connection.request(method, path, body)
            found.append(connection.getresponse().read())
        connection.request("PUT", "/chunks", iter([b"ab", b"cde"]), encode_chunked=True)
        found.append(connection.getresponse().read())
        connection.close()

    async def main() -> None:
        server = await serve(handler, "127.0.0.1", 0)
        found: list[bytes] = []
        thread = threading.Thread(target=client, args=(server.port, found))
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
        assert found == [b"GET /a  0", b"POST /b  100000", b"x" * 3000, b"PUT /chunks  5"]
        await server.close(1)

    asyncio.run(main())


def test_fuzz() -> None:
    """Random damage to valid requests: every answer begins like one, and the server lives on."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    samples = [
        b"GET /api/v1/pods?limit=500 HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
        b"PUT /api HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        b"GET /exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    ]

    def damaged() -> bytes:
        data = bytearray(b"".join(generator.choices(samples, k=generator.randint(1, 3))))
        for _ in range(generator.randint(0, 6)):
            at = generator.randrange(len(data))
            kind = generator.randrange(4)
            if kind == 0:
                data[at] = generator.randrange(256)
            elif kind == 1:
                del data[at : at + generator.randint(1, 20)]
            elif kind == 2:
                data[at:at] = generator.choice([b"\r\n", b"\n", b": ", b"\x00", b"chunked", b"9" * 30, b" "])
            else:
                data[at:at] = data[generator.randrange(len(data)) :][:30]
            if not data:
                data = bytearray(b"\r\n")
        return bytes(data)

    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0, limits=Limits(header_timeout=5, body_timeout=5, body=1000))
        for _ in range(300):
            data = damaged()
            cut = generator.randrange(len(data) + 1)
            async with asyncio.timeout(60):
                answer = await talk(server, data[:cut], data[cut:], eof=True)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 "), (data, answer)
        good = b"GET /alive HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
        assert (await talk(server, good)).endswith(b"GET /alive  0")
        await server.close(1)

    uvloop.run(main())
