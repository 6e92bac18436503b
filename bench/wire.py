"""How fast the HTTP servers are by themselves: requests per second and watch fan-out, beside an upper bound.

    python -m bench.wire [--seconds 3] [--connections 16] [--watchers 500]

The upper bound is a bare ``asyncio.Protocol`` that answers each read with a ready-made response: what the event loop
and TLS cost, with no HTTP at all. The load generator runs in a process of its own; both share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.wire.certificates import Authority
from tiphys.wire.http import Request, Response, Sink
from tiphys.wire.server import serve
from tiphys.wire.tls import contexts

POD = b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","uid":"' + b"u" * 2400 + b'"}}'
EVENT = b'{"type":"MODIFIED","object":' + POD[:1200] + b"}\n"
REQUEST = (
    b"GET /api/v1/namespaces/default/pods/x HTTP/1.1\r\nHost: 127.0.0.1:6443\r\nUser-Agent: bench/1.0\r\n"
    b"Accept: application/json\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\nAccept-Encoding: gzip\r\n\r\n"
)


class Ready(asyncio.Protocol):
    """The upper bound: a ready-made answer to whatever comes."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(POD), POD)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.ANSWER)  # type: ignore[attr-defined]


async def handle(request: Request) -> Response:
    return Response(200, {"Content-Type": "application/json"}, POD)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def serve_in_process(kind: str, pipe: Connection, context: tuple[bytes, bytes] | None) -> None:
    """Run one server until the pipe closes; answers ``rss`` and ``cpu`` on it, and fans ``events N`` out."""

    async def main() -> None:
        sinks: list[Sink] = []

        async def handler(request: Request) -> Response:
            if not request.query:
                return Response(200, {"Content-Type": "application/json"}, POD)

            async def watch(sink: Sink) -> None:
                sinks.append(sink)
                await sink.wait_closed()
                sinks.remove(sink)

            return Response(200, {"Content-Type": "application/json"}, watch)

        secure = contexts.server_context(*context) if context else None
        loop = asyncio.get_running_loop()
        if kind == "ready":
            listener = await loop.create_server(Ready, "127.0.0.1", 0, ssl=secure)
            port = listener.sockets[0].getsockname()[1]
        else:
            server = await serve(handler, "127.0.0.1", 0, tls=secure)
            port = server.port
        pipe.send(port)
        while True:
            command = await loop.run_in_executor(None, pipe.recv)
            if command == "rss":
                pipe.send(resident())
            elif command == "cpu":
                pipe.send(time.process_time())
            elif command == "watchers":
                pipe.send(len(sinks))
            elif isinstance(command, tuple):
                count, batch = command
                for number in range(count // batch):
                    for _ in range(batch):
                        event = EVENT[:-2] + b"%d}\n" % number
                        for sink in sinks:
                            sink.write(event)
                    await asyncio.sleep(0)
                    if number % 16 == 0:
                        await asyncio.gather(*(sink.drain() for sink in sinks))
                pipe.send("done")
            else:
                return

    with contextlib.suppress(EOFError, KeyboardInterrupt):
        uvloop.run(main())


class Getter(asyncio.Protocol):
    """A client that sends the next request as soon as the answer is complete."""

    def __init__(self, times: list[float]) -> None:
        self.times = times
        self.size = 0
        self.received = 0
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def go(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(REQUEST)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self.size:
            head = data.index(b"\r\n\r\n") + 4
            self.size = head + int(data[:head].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.received += len(data)
        if self.received >= self.size:
            self.received -= self.size
            self.times.append(time.perf_counter() - self.sent)
            self.go()


class Counter(asyncio.Protocol):
    received = 0
    watch = REQUEST.replace(b" HTTP", b"?watch=true HTTP")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self.watch)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        Counter.received += len(data)


async def connect(make: Callable[[], asyncio.Protocol], port: int, context: ssl.SSLContext | None, count: int) -> list:
    loop = asyncio.get_running_loop()
    name = "localhost" if context else None
    return [
        (await loop.create_connection(make, "127.0.0.1", port, ssl=context, server_hostname=name))[1]
        for _ in range(count)
    ]


async def measure_gets(kind: str, seconds: float, connections: int, authority: Authority, *, secure: bool) -> float:
    async def run(port: int, context: ssl.SSLContext | None, pipe: Connection) -> float:
        times: list[float] = []
        clients = await connect(lambda: Getter(times), port, context, connections)
        for client in clients:
            client.go()
        await asyncio.sleep(0.3)
        times.clear()
        cpu, own = ask(pipe, "cpu"), time.process_time()
        started = time.perf_counter()
        await asyncio.sleep(seconds)
        rate = len(times) / (time.perf_counter() - started)
        server_cost = (ask(pipe, "cpu") - cpu) / len(times) * 1e6
        client_cost = (time.process_time() - own) / len(times) * 1e6
        times.sort()
        p50, p99 = times[len(times) // 2] * 1e3, times[len(times) * 99 // 100] * 1e3
        print(
            f"GET  {kind:6} {'tls  ' if secure else 'plain'} {rate:9,.0f}/s   p50 {p50:.2f} ms  p99 {p99:.2f} ms   "
            f"CPU: server {server_cost:.1f} µs, generator {client_cost:.1f} µs a request"
        )
        for client in clients:
            client.transport.abort()
        return rate

    return await with_server(kind, secure=secure, authority=authority, run=run)


async def measure_watches(watchers: int, batch: int, authority: Authority, *, secure: bool) -> float:
    async def run(port: int, context: ssl.SSLContext | None, pipe: Connection) -> float:
        idle = ask(pipe, "rss")
        clients = await connect(Counter, port, context, watchers)
        while ask(pipe, "watchers") < watchers:
            await asyncio.sleep(0.01)
        each = (ask(pipe, "rss") - idle) / watchers / 1024
        Counter.received = 0
        events = 600
        cpu = ask(pipe, "cpu")
        started = time.perf_counter()
        pipe.send((events, batch))
        expected = events * watchers * len(EVENT)
        while Counter.received < expected:
            await asyncio.sleep(0.005)
        elapsed = time.perf_counter() - started
        assert pipe.recv() == "done"
        cost = (ask(pipe, "cpu") - cpu) / events / watchers * 1e6
        rate = events * watchers / elapsed
        print(
            f"watch {watchers} {'tls  ' if secure else 'plain'} {batch:3} at once {rate:9,.0f} events/s   "
            f"CPU: server {cost:.1f} µs an event;  {each:.0f} KB a watcher"
        )
        for client in clients:
            del client
        return rate

    return await with_server("tiphys", secure=secure, authority=authority, run=run)


def ask(pipe: Connection, what: str) -> float:
    pipe.send(what)
    return float(pipe.recv())


async def with_server(
    kind: str,
    authority: Authority,
    run: Callable[[int, ssl.SSLContext | None, Connection], Awaitable[float]],
    *,
    secure: bool,
) -> float:
    near, far = multiprocessing.Pipe()
    pair = authority.issue("localhost", server=True) if secure else None
    process = multiprocessing.get_context("spawn").Process(target=serve_in_process, args=(kind, far, pair), daemon=True)
    process.start()
    try:
        port = near.recv()
        return await run(port, contexts.client_context(authority.pem) if secure else None, near)
    finally:
        near.send("stop")
        process.join(5)
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--watchers", type=int, default=500)
    options = parser.parse_args()
    authority = Authority()

    async def gets(kind: str, *, secure: bool) -> float:
        return await measure_gets(
            kind, secure=secure, seconds=options.seconds, connections=options.connections, authority=authority
        )

    for secure in (False, True):
        bound = uvloop.run(gets("ready", secure=secure))
        rate = uvloop.run(gets("tiphys", secure=secure))
        print(f"     {rate / bound:.0%} of the upper bound; the budget for reading a Pod over TLS is 8,000/s")
    for secure in (False, True):
        for batch in (1, 8):
            rate = uvloop.run(measure_watches(options.watchers, secure=secure, batch=batch, authority=authority))
            print(f"     {rate / 120_000:.1f} times the budget of 120,000/s")


if __name__ == "__main__":
    main()
