"""Every kind of stream through the whole chain, and whether all of it arrives.

    client ── TLS ── API server ── TLS ── kubelet ── TCP ── runtime

Servers, connections and translations are the real ones; the runtime writes bytes by a seed and then closes its socket
as containerd does: at once, whatever is still to be sent. The client pings all the time; a ping that reached the closed
socket would lose what is still in the kernel.

    python -m tests.apiserver.streaming.tails --megabytes 100 --runs 100 --load 4

prints a line for each kind; the last result is in docs/wire.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from tests.wire.certificates import Authority
from tiphys.apiserver.streaming.connect import exec_or_attach, port_forward
from tiphys.apiserver.streaming.location import Location
from tiphys.apiserver.streaming.log import pod_log
from tiphys.apiserver.streaming.reverse import reverse_proxy
from tiphys.apiserver.streaming.translate import StreamOptions
from tiphys.kubelet.server.streaming import Streaming
from tiphys.wire import websocket
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import ByteStream, Headers, Request, Response, Sink, Upgrade
from tiphys.wire.server import serve
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.stream import TransportStream
from tiphys.wire.tls import contexts
from tiphys.wire.websocket import Channels, TunnelStream, WebSocket

PIECE = 32 * 1024
SUCCESS = b'{"metadata":{},"status":"Success"}'
AUTHORITY = Authority("tails")
PAIR = AUTHORITY.issue("localhost", server=True)
KINDS = (
    "exec spdy",
    "exec websocket",
    "attach spdy",
    "attach websocket",
    "cp in spdy",
    "cp in websocket",
    "port-forward spdy",
    "port-forward websocket",
    "logs",
    "proxy",
)


@dataclass(frozen=True)
class Task:
    size: int
    seed: int
    slow: bool = False
    """Whether the client takes its time."""

    def pieces(self) -> list[bytes]:
        block = random.Random(self.seed).randbytes(PIECE + 97)
        return [block[at % 97 : at % 97 + PIECE] for at in range(self.size // PIECE)] + [block[: self.size % PIECE]]

    def digest(self) -> str:
        return digest(self.pieces())


def digest(pieces: list[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


class Runtime:
    """Streams by SPDY, as containerd; ``received`` is the hash of what came on stdin."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.received = ""

    async def handle(self, request: Request) -> Response:
        if request.path == "/file":
            return Response(200, {"Content-Length": str(self._task.size)}, self._write_to)
        headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
        return Response(101, headers, Upgrade(self._serve))

    async def _write_to(self, sink: Sink) -> None:
        for piece in self._task.pieces():
            sink.write(piece)
            await sink.drain()

    async def _serve(self, stream: ByteStream) -> None:
        opened: dict[str, SpdyStream] = {}
        changed = asyncio.Event()

        def accept(new: SpdyStream) -> None:
            opened[new.headers["streamtype"]] = new
            changed.set()

        connection = SpdyConnection(stream, server=True, accept=accept)
        reading = asyncio.create_task(connection.run())
        while not opened.keys() & {"stdin", "stdout", "data"} or "error" not in opened:
            changed.clear()
            await changed.wait()
        if "stdin" in opened:
            found = hashlib.sha256()
            while data := await opened["stdin"].read():
                found.update(data)
            self.received = found.hexdigest()
        else:
            out = opened.get("stdout") or opened["data"]
            for piece in self._task.pieces():
                out.write(piece)
                await out.drain()
            out.close()
        opened["error"].write(SUCCESS if "data" not in opened else b"")
        opened["error"].close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await close_as_go_does(cast(TransportStream, stream))


async def close_as_go_does(stream: TransportStream) -> None:
    """Hand all to the kernel, and close the socket."""
    transport = stream._transport
    while transport.get_write_buffer_size():
        await asyncio.sleep(0.001)
    transport.abort()


class Urls:
    """As much of a ``RuntimeService`` as the kubelet's streaming server asks for."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/stream"

    async def exec_url(self, *_: Any, **__: Any) -> str:
        return self._url

    attach_url = port_forward_url = exec_url


@contextlib.asynccontextmanager
async def chain(runtime: Runtime) -> AsyncIterator[SocketTransport]:
    """The servers; gives a transport to the API server."""
    below = await serve(runtime.handle, "127.0.0.1", 0)
    streaming = Streaming(cast(Any, Urls(below.port)))
    to_file = SocketTransport("127.0.0.1", below.port)

    async def kubelet(request: Request) -> Response:
        if request.path.startswith("/exec"):
            return await streaming.execute(request, "c")
        if request.path.startswith("/attach"):
            return await streaming.attach(request, "c", tty=False)
        if request.path.startswith("/portForward"):
            return await streaming.forward_ports(request, "s")
        return Response(200, {}, runtime._write_to)

    node = await serve(kubelet, "127.0.0.1", 0, tls=contexts.server_context(*PAIR))
    to_node = SocketTransport("127.0.0.1", node.port, contexts.client_context(AUTHORITY.pem), "localhost")

    async def apiserver(request: Request) -> Response:
        kind = request.path.removeprefix("/").partition("/")[0]
        if kind == "log":
            return await pod_log(to_node, Location("/containerLogs/n/p/c"), "p")
        if kind == "proxy":
            return await reverse_proxy(request, to_file, Location("/file"))
        if kind == "portForward":
            return await port_forward(request, to_node, Location("/portForward/n/p", "port=80"))
        incoming = "stdin" in request.query
        options = StreamOptions(stdin=incoming, stdout=not incoming)
        query = "input=1&command=tar" if incoming else "output=1&command=cat"
        return await exec_or_attach(request, to_node, Location(f"/{kind}/n/p/c", query), options)

    front = await serve(apiserver, "127.0.0.1", 0, tls=contexts.server_context(*PAIR))
    to_front = SocketTransport("127.0.0.1", front.port, contexts.client_context(AUTHORITY.pem), "localhost")
    try:
        yield to_front
    finally:
        for transport in (to_front, to_node, to_file):
            await transport.close()
        for server in (front, node, below):
            await server.close(0.1)


async def taken(read: Callable[[], Awaitable[bytes]], task: Task) -> str:
    """The hash of all that ``read`` gives."""
    found = hashlib.sha256()
    count = 0
    while data := await read():
        found.update(data)
        count += 1
        if task.slow and count % 8 == 0:
            await asyncio.sleep(0.01)
    return found.hexdigest()


@contextlib.asynccontextmanager
async def chatter(say: Callable[[], object]) -> AsyncIterator[None]:
    """Talk all the time, as kubectl's heartbeat does now and then."""

    async def talk() -> None:
        while True:
            say()
            await asyncio.sleep(0.002)

    talking = asyncio.create_task(talk())
    try:
        yield
    finally:
        talking.cancel()


async def carry(kind: str, task: Task) -> tuple[str, str]:
    """Run one stream; the hash of what arrived, and of what was sent."""
    runtime = Runtime(task)
    what, _, protocol = kind.rpartition(" ") if " " in kind else (kind, "", "")
    async with chain(runtime) as transport:
        if what in ("logs", "proxy", ""):
            answer = await transport.send(Request("GET", "/log" if kind == "logs" else "/proxy"))
            chunks = answer.chunks()
            arrived = await taken(lambda: anext(chunks, b""), task)
        elif what == "port-forward":
            arrived = await _port_forward(transport, protocol, task)
        else:
            way = _by_spdy if protocol == "spdy" else _by_websocket
            arrived = await way(transport, "attach" if what == "attach" else "exec", task, incoming=what == "cp in")
        return (runtime.received if what == "cp in" else arrived), task.digest()


async def _spdy(stream: ByteStream) -> tuple[SpdyConnection, asyncio.Task[None]]:
    connection = SpdyConnection(stream, server=False, grants=False)  # as kubectl
    return connection, asyncio.create_task(connection.run())


async def _by_spdy(transport: SocketTransport, kind: str, task: Task, *, incoming: bool) -> str:
    headers = Headers(
        {"connection": "Upgrade", "upgrade": "SPDY/3.1", "x-stream-protocol-version": "v4.channel.k8s.io"}
    )
    query = "stdin=true" if incoming else "stdout=true"
    answer = await transport.send(Request("POST", f"/{kind}", query, headers))
    connection, running = await _spdy(answer.upgraded())
    error = await connection.open({"streamtype": "error"})
    stream = await connection.open({"streamtype": "stdin" if incoming else "stdout"})
    pings = iter(range(1, 1 << 30, 2))
    async with chatter(lambda: connection._send(_ping(next(pings)))):
        arrived = ""
        if incoming:
            for piece in task.pieces():
                stream.write(piece)
                await stream.drain()
            stream.close()
        else:
            arrived = await taken(stream.read, task)
        last_word = b""
        while data := await error.read():
            last_word += data
        assert last_word == SUCCESS, last_word
        await running
    return arrived


def _ping(number: int) -> bytes:
    from tiphys.wire.spdy.frames import ping_frame

    return ping_frame(number)


async def _by_websocket(transport: SocketTransport, kind: str, task: Task, *, incoming: bool) -> str:
    headers = websocket.request_headers(websocket.V5)
    query = "stdin=true" if incoming else "stdout=true"
    answer = await transport.send(Request("GET", f"/{kind}", query, headers))
    assert answer.status == 101, await answer.read()
    socket = WebSocket(answer.upgraded(), server=False)
    channels = Channels(socket, websocket.V5)
    statuses: list[bytes] = []

    async def read() -> bytes:
        while (message := await channels.receive()) is not None:
            if message.channel == 3:
                statuses.append(message.data)
            elif message.data:
                return message.data
        return b""

    async with chatter(socket.ping):
        if incoming:
            for piece in task.pieces():
                channels.send(0, piece)
                await channels.drain()
            channels.close_channel(0)
        arrived = await taken(read, task)
    assert b"".join(statuses) == SUCCESS, statuses
    socket.close()
    return arrived


async def _port_forward(transport: SocketTransport, protocol: str, task: Task) -> str:
    if protocol == "spdy":
        headers = Headers(
            {"connection": "Upgrade", "upgrade": "SPDY/3.1", "x-stream-protocol-version": "portforward.k8s.io"}
        )
        answer = await transport.send(Request("POST", "/portForward", "", headers))
        stream: ByteStream = answer.upgraded()
    else:
        headers = websocket.request_headers(f"{websocket.TUNNEL_PREFIX}portforward.k8s.io")
        answer = await transport.send(Request("GET", "/portForward", "", headers))
        assert answer.status == 101, await answer.read()
        stream = TunnelStream(WebSocket(answer.upgraded(), server=False))
    connection, running = await _spdy(stream)
    await connection.open({"streamtype": "error", "port": "80", "requestid": "0"})
    data = await connection.open({"streamtype": "data", "port": "80", "requestid": "0"})
    pings = iter(range(1, 1 << 30, 2))
    async with chatter(lambda: connection._send(_ping(next(pings)))):
        arrived = await taken(data.read, task)
    await running
    return arrived


# -- the long run


def _burn(until: float) -> None:
    while time.monotonic() < until:
        sum(range(10_000))


def main() -> int:
    parser = argparse.ArgumentParser(description="Send bytes through every kind of stream and compare hashes.")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--load", type=int, default=0, help="processes that keep the processors busy")
    parser.add_argument("--seconds", type=float, default=400, help="stop after so long")
    parser.add_argument("--kind", choices=KINDS, action="append")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    burners = [multiprocessing.Process(target=_burn, args=(end,), daemon=True) for _ in range(options.load)]
    for burner in burners:
        burner.start()
    lost = 0
    seed = int.from_bytes(os.urandom(4))
    print(f"seed {seed}, {options.megabytes} MB a run, {options.load} busy processes")
    results = {kind: [0, 0] for kind in options.kind or KINDS}
    for number in range(options.runs):
        for kind, result in results.items():
            if time.monotonic() > end:
                break
            task = Task(options.megabytes * 1_000_000, seed + number, slow=number % 2 == 1)
            result[0] += 1
            try:
                arrived, sent = uvloop.run(carry(kind, task))
                result[1] += arrived != sent
            except (AssertionError, ConnectionError) as error:
                result[1] += 1
                print(f"{kind}, run {number}: {error!r}")
    for kind, (runs, bad) in results.items():
        lost += bad
        print(f"{kind:24} {runs:4} runs, {bad} lost something")
    for burner in burners:
        burner.kill()
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
