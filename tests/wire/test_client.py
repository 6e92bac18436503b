"""The socket transport against servers that misbehave: stale connections, broken answers, endings."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tiphys.wire.client import Address, SocketTransport, canonical, parse_url
from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.server import serve

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(script: Script, use: Callable[[SocketTransport], Awaitable[None]]) -> None:
    """Use a transport against a server that runs ``script`` for each connection."""

    async def main() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        transport = SocketTransport("127.0.0.1", server.sockets[0].getsockname()[1])
        async with asyncio.timeout(60), server:
            await use(transport)
            await transport.close()

    asyncio.run(main())


async def get(transport: SocketTransport, method: str = "GET") -> tuple[int, bytes]:
    answer = await transport.send(Request(method, "/"))
    return answer.status, await answer.read()


def answering(*answers: bytes) -> Script:
    """A server that gives these answers, one to each request, and then closes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_urls() -> None:
    assert parse_url("https://10.0.0.1:6443") == Address(secure=True, host="10.0.0.1", port=6443, path="")
    assert parse_url("http://[::1]/prefix/") == Address(secure=False, host="::1", port=80, path="/prefix")
    assert parse_url("host:8080") == Address(secure=False, host="host", port=8080, path="")
    for bad in ("ftp://x", "https://", "https://x:port"):
        with pytest.raises(ValueError):
            parse_url(bad)


def test_canonical_names() -> None:
    assert canonical("x-forwarded-for") == "X-Forwarded-For"


def test_connections_are_kept() -> None:
    connections = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(OK, OK, b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\n\r\n", OK)(
            reader, writer
        )

    async def use(transport: SocketTransport) -> None:
        statuses = [(await get(transport))[0] for _ in range(5)]
        assert statuses == [200, 200, 204, 304, 200]
        assert connections == 1

    against(script, use)


def test_a_stale_connection_is_replaced_where_that_is_safe() -> None:
    requests: list[str] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0].decode())
        writer.write(OK)
        requests.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0].decode())  # and closes without an answer

    async def use(transport: SocketTransport) -> None:
        assert await get(transport) == (200, b"ok")
        assert await get(transport) == (200, b"ok")  # sent twice: the first one met a closing server
        with pytest.raises(ConnectionError):
            await get(transport, "POST")
        assert requests == ["GET", "GET", "GET", "POST"]

    against(script, use)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200_000,
    ],
)
def test_broken_answers_are_connection_errors(answer: bytes) -> None:
    async def use(transport: SocketTransport) -> None:
        with pytest.raises(ConnectionError):
            await get(transport, "POST")

    against(answering(answer), use)


def test_a_body_up_to_the_end_of_the_connection() -> None:
    async def use(transport: SocketTransport) -> None:
        assert await get(transport) == (200, b"all of it")

    against(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it"), use)


def test_interim_answers_are_skipped() -> None:
    async def use(transport: SocketTransport) -> None:
        assert await get(transport) == (200, b"ok")

    against(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK), use)


def test_an_unread_answer_does_not_poison_the_next() -> None:
    async def use(transport: SocketTransport) -> None:
        answer = await transport.send(Request("GET", "/"))
        await answer.close()
        assert await get(transport) == (200, b"ok")

    big = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    first = True

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        answers = (big,) if first else (OK,)
        first = False
        await answering(*answers, OK)(reader, writer)

    against(script, use)


def test_fields_and_framing_of_a_request() -> None:
    received: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4))
        writer.write(OK)

    async def use(transport: SocketTransport) -> None:
        headers = Headers({"content-type": "text/plain", "x-list": "a\nb"})
        await (await transport.send(Request("PUT", "/p", "q=1", headers, b"body"))).read()
        head, _, body = received[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"PUT /p?q=1 HTTP/1.1"
        assert {b"Content-Type: text/plain", b"X-List: a", b"X-List: b", b"Content-Length: 4"} < set(lines)
        assert body == b"body"
        with pytest.raises(ValueError):
            await transport.send(Request("GET", "/a b\r\nEvil: yes"))

    against(script, use)


def test_set_cookie_fields_stay_apart() -> None:
    async def use(transport: SocketTransport) -> None:
        answer = await transport.send(Request("GET", "/"))
        assert answer.headers["set-cookie"] == "a=1\nb=2"
        assert answer.headers["vary"] == "x, y"
        await answer.read()

    cookies = b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nVary: x\r\nVary: y\r\n"
    against(answering(b"HTTP/1.1 200 OK\r\n" + cookies + b"Content-Length: 0\r\n\r\n"), use)


def test_unix_socket(tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert b"Host: localhost\r\n" in await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            writer.close()

        server = await asyncio.start_unix_server(connected, path)
        async with server:
            transport = SocketTransport("localhost", 80, unix_path=path)
            assert await get(transport) == (200, b"ok")
            await transport.close()
        with pytest.raises(ConnectionError, match="connect to unix:"):
            await SocketTransport("localhost", 80, unix_path=str(tmp_path / "none")).send(Request("GET", "/"))

    asyncio.run(main())


def test_dead_peers_are_found() -> None:
    """Both ends of a connection ask the kernel to probe it."""

    async def main() -> None:
        async def handler(request: Request) -> Response:
            return Response(200)

        server = await serve(handler, "127.0.0.1", 0)
        transport = SocketTransport("127.0.0.1", server.port)
        assert (await transport.send(Request("GET", "/"))).status == 200
        (near,), (far,) = transport._all, server.connections
        for connection in (near, far):
            sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        await transport.close()
        await server.close(1)

    asyncio.run(main())


def test_names_that_do_not_exist() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionError, match=r"connect to nowhere\.invalid:1"):
            await SocketTransport("nowhere.invalid", 1).send(Request("GET", "/"))

    asyncio.run(main())


CUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"


@pytest.mark.parametrize("heard", [False, True])
def test_after_a_cut_watches_that_have_heard_nothing_since_are_given_up(
    heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CUT if len(writers) == 1 else OK)
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def use(transport: SocketTransport) -> None:
        loop = asyncio.get_running_loop()
        watch = (await transport.send(Request("GET", "/watch"))).chunks()
        assert await anext(watch) == b"first"

        async def no_route(*_: object, **__: object) -> None:
            raise OSError(errno.EHOSTUNREACH, "No route to host")

        with monkeypatch.context() as cut:
            cut.setattr(type(loop), "create_connection", no_route)
            with pytest.raises(ConnectionError, match="No route to host"):
                await get(transport)
        if heard:
            writers[0].write(b"6\r\nsecond\r\n")
            assert await anext(watch) == b"second"
        assert await get(transport) == (200, b"ok")
        if heard:
            writers[0].write(b"5\r\nthird\r\n")
            assert await anext(watch) == b"third"
        else:
            with pytest.raises(ConnectionResetError, match="out of reach for a while"):
                await anext(watch)

    against(script, use)
