"""One suite for every ``Transport``: what a client sees must not depend on how its requests travel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.wire.certificates import Authority
from tiphys.runtime.clock import VirtualTimeLoop
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import ByteStream, Handler, Headers, Request, Response, Sink, Transport, Upgrade
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts

Opener = Callable[[Handler], contextlib.AbstractAsyncContextManager[Transport]]


@asynccontextmanager
async def in_process(handler: Handler) -> AsyncIterator[Transport]:
    transport = InProcessTransport(handler, ("alice", ("admins",)))
    yield transport
    await transport.close()


@asynccontextmanager
async def plain(handler: Handler) -> AsyncIterator[Transport]:
    server = await serve(handler, "127.0.0.1", 0)
    transport = SocketTransport("127.0.0.1", server.port)
    yield transport
    await transport.close()
    await server.close(0)


@asynccontextmanager
async def encrypted(handler: Handler) -> AsyncIterator[Transport]:
    authority = Authority()
    cert, key = authority.issue("localhost", server=True)
    server = await serve(handler, "127.0.0.1", 0, tls=contexts.server_context(cert, key))
    transport = SocketTransport("127.0.0.1", server.port, contexts.client_context(authority.pem), "localhost")
    yield transport
    await transport.close()
    await server.close(0)


KINDS: dict[str, tuple[Opener, Callable[[], asyncio.AbstractEventLoop]]] = {
    "in-process": (in_process, VirtualTimeLoop),
    "plain": (plain, asyncio.new_event_loop),
    "tls": (encrypted, asyncio.new_event_loop),
}
try:
    import uvloop
except ImportError:
    pass
else:
    KINDS["plain-uvloop"] = (plain, uvloop.new_event_loop)
    KINDS["tls-uvloop"] = (encrypted, uvloop.new_event_loop)

Use = Callable[[Transport], Awaitable[None]]


@pytest.fixture(params=list(KINDS))
def run(request: pytest.FixtureRequest) -> Callable[[Handler, Use], None]:
    """Serve a handler, and use it through the transport under test."""
    opener, loop_factory = KINDS[request.param]

    def run(handler: Handler, use: Use) -> None:
        async def main() -> None:
            async with asyncio.timeout(60), opener(handler) as transport:
                await use(transport)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    return run


async def echo(request: Request) -> Response:
    headers = {"Content-Type": "text/plain", "X-Method": request.method, "X-Query": request.query}
    return Response(200, headers, request.path.encode() + b"|" + request.body)


def test_request_and_response(run) -> None:
    async def use(transport: Transport) -> None:
        headers = Headers({"content-type": "application/json"})
        answer = await transport.send(Request("POST", "/a%2Fb", "x=1&y=", headers, b"body"))
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain"
        assert (answer.headers["x-method"], answer.headers["x-query"]) == ("POST", "x=1&y=")
        assert await answer.read() == b"/a%2Fb|body"

    run(echo, use)


def test_head_has_no_body_and_the_next_request_works(run) -> None:
    async def use(transport: Transport) -> None:
        for _ in range(2):
            answer = await transport.send(Request("HEAD", "/path"))
            assert answer.headers["content-length"] == str(len("/path|"))
            assert await answer.read() == b""
        assert await (await transport.send(Request("GET", "/x"))).read() == b"/x|"

    run(echo, use)


def test_large_bodies_both_ways(run) -> None:
    body = bytes(range(256)) * 8192  # 2 MiB

    async def use(transport: Transport) -> None:
        for _ in range(2):
            answer = await transport.send(Request("PUT", "/", body=body))
            assert await answer.read() == b"/|" + body

    run(echo, use)


def test_many_requests_at_once(run) -> None:
    async def use(transport: Transport) -> None:
        async def one(number: int) -> bytes:
            return await (await transport.send(Request("GET", f"/{number}"))).read()

        answers = await asyncio.gather(*(one(number) for number in range(50)))
        assert answers == [b"/%d|" % number for number in range(50)]

    run(echo, use)


def test_stream_arrives_piece_by_piece(run) -> None:
    taken = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"one")
            await taken.wait()  # ends only when the first piece has been read
            sink.write(b"two")

        return Response(200, {"Content-Type": "application/json"}, body)

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/"))
        pieces = []
        async for piece in answer.chunks():
            pieces.append(piece)
            taken.set()
        assert pieces == [b"one", b"two"]

    run(handler, use)


def test_slow_reader_holds_the_writer_back(run) -> None:
    size, count = 64 * 1024, 400
    progress = 0

    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            nonlocal progress
            for _ in range(count):
                sink.write(bytes(size))
                await sink.drain()
                progress += 1

        return Response(200, {}, body)

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/"))
        stable = -1
        while stable != progress:  # until the writer waits
            stable = progress
            await asyncio.sleep(0.05)
        assert 0 < progress < count - 20
        assert len(await answer.read()) == size * count

    run(handler, use)


def test_closing_the_response_tells_the_stream(run) -> None:
    gone = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"first")
            try:
                await sink.wait_closed()
            finally:
                assert sink.closed
                gone.set()

        return Response(200, {}, body)

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/"))
        async for piece in answer.chunks():
            assert piece == b"first"
            break
        await answer.close()
        await gone.wait()

    run(handler, use)


def test_a_broken_stream_is_an_error(run) -> None:
    async def handler(request: Request) -> Response:
        async def body(sink: Sink) -> None:
            sink.write(b"part")
            raise RuntimeError("disk on fire")

        return Response(200, {}, body)

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/"))
        with pytest.raises(ConnectionError):
            await answer.read()

    run(handler, use)


def test_a_failing_handler_is_a_500(run) -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/fail":
            raise RuntimeError("no")
        return Response(200)

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/fail"))
        assert (answer.status, await answer.read()) == (500, b"Internal Server Error\n")
        assert (await transport.send(Request("GET", "/"))).status == 200

    run(handler, use)


def test_timeout(run) -> None:
    cancelled = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()
        return Response(200)

    async def use(transport: Transport) -> None:
        with pytest.raises(TimeoutError):
            await transport.send(Request("GET", "/"), timeout=0.05)
        await cancelled.wait()

    run(handler, use)


def test_cancelling_the_caller_cancels_the_handler(run) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()
        return Response(200)

    async def use(transport: Transport) -> None:
        call = asyncio.create_task(transport.send(Request("GET", "/")))  # type: ignore[arg-type]
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await cancelled.wait()

    run(handler, use)


def test_handlers_may_use_timeouts_and_task_groups(run) -> None:
    async def handler(request: Request) -> Response:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            pass
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "done"))
        return Response(200, {}, child.result().encode())

    async def use(transport: Transport) -> None:
        assert await (await transport.send(Request("GET", "/"))).read() == b"done"

    run(handler, use)


def test_upgrade_gives_raw_bytes(run) -> None:
    async def handler(request: Request) -> Response:
        assert request.headers["upgrade"] == "echo"

        async def shout(stream: ByteStream) -> None:
            stream.write(b"hello ")
            while data := await stream.read():
                stream.write(data.upper())
                await stream.drain()
                if b"\n" in data:
                    break
            stream.close()

        return Response(101, {"Upgrade": "echo", "Connection": "Upgrade"}, Upgrade(shout))

    async def use(transport: Transport) -> None:
        headers = Headers({"connection": "Upgrade", "upgrade": "echo"})
        answer = await transport.send(Request("POST", "/exec", headers=headers))
        assert (answer.status, answer.headers["upgrade"]) == (101, "echo")
        stream = answer.upgraded()
        stream.write(b"abc")
        stream.write(b"def\n")
        received = b""
        while data := await stream.read():
            received += data
        assert received == b"hello ABCDEF\n"
        stream.close()

    run(handler, use)


def test_declined_upgrade(run) -> None:
    async def use(transport: Transport) -> None:
        headers = Headers({"connection": "Upgrade", "upgrade": "echo"})
        for _ in range(2):
            answer = await transport.send(Request("GET", "/exec", headers=headers))
            assert (answer.status, await answer.read()) == (200, b"/exec|")

    run(echo, use)


def test_closing_an_upgraded_stream_ends_the_other_side(run) -> None:
    ended = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def until_end(stream: ByteStream) -> None:
            while await stream.read():
                pass
            ended.set()

        return Response(101, {"Upgrade": "x"}, Upgrade(until_end))

    async def use(transport: Transport) -> None:
        answer = await transport.send(Request("GET", "/", headers=Headers({"connection": "upgrade", "upgrade": "x"})))
        answer.upgraded().close()
        await ended.wait()

    run(handler, use)


def test_unreachable_is_a_connection_error() -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        port = server.port
        await server.close(0)
        transport = SocketTransport("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
            await transport.send(Request("GET", "/"))
        await transport.close()

    asyncio.run(main())


def test_in_process_identity() -> None:
    async def handler(request: Request) -> Response:
        assert request.peer.identity == ("alice", ("admins",))
        assert request.peer.secure
        return Response(204)

    async def main() -> None:
        async with in_process(handler) as transport:
            assert (await transport.send(Request("GET", "/"))).status == 204

    asyncio.run(main())
