"""Measures the store: in process, by gRPC, and real etcd on the same disk, in one run.

    python bench/store.py [--quick] [--rounds N] [--directory DIR]

Prints durable puts per second and p99 at 1, 8, 64 and 256 clients; a range of 500 keys; watch fan-out; memory and
start-up time at 100,000 keys of 1 KB; and the ratios to etcd. The servers run beside each other and take turns at each
row, so a ratio is of one moment, and what else the machine does falls on all alike. Clients by gRPC are the same for
both servers, in a process of their own. Real etcd is skipped where it is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Backend, Put, Range, WatchRequest
from tiphys.store.sqlite import SQLiteBackend

CLIENTS = (1, 8, 64, 256)
VALUE = os.urandom(256)
Figures = dict[str, float]
Command = Callable[[int], list[str]]
"""A server's command line for a port."""
INSIDE, GRPC, ETCD = "in process", "gRPC", "etcd"


async def puts(backends: list[Backend], clients: int, count: int, turn: int) -> tuple[float, float]:
    """Puts per second, and the 99th percentile of their latency in milliseconds. Keys are new with each ``turn``."""
    times: list[float] = []

    async def client(number: int) -> None:
        backend = backends[number % len(backends)]
        for place in range(count // clients):
            began = time.perf_counter()
            await backend.put(Put(b"/bench/%d/%d/%d" % (turn, number, place), VALUE))
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    took = time.perf_counter() - began
    times.sort()
    return len(times) / took, times[int(len(times) * 0.99)] * 1000


async def ranges(backend: Backend) -> float:
    """Milliseconds to read 500 keys of 1 KB."""
    await asyncio.gather(*(backend.put(Put(b"/range/%04d" % number, bytes(1024))) for number in range(500)))
    rounds = 20
    began = time.perf_counter()
    for _ in range(rounds):
        assert len((await backend.range(Range(b"/range/", b"/range0"))).kvs) == 500
    return (time.perf_counter() - began) / rounds * 1000


async def fan_out(backend: Backend, watchers: int, events: int) -> float:
    """Events delivered per second, to all watchers together."""
    watches = [await backend.watch(WatchRequest(b"/fan/", b"/fan0")) for _ in range(watchers)]

    async def reader(watch) -> None:  # type: ignore[no-untyped-def]
        seen = 0
        async for batch in watch:
            seen += len(batch.events)
            if seen >= events:
                return

    readers = [asyncio.create_task(reader(watch)) for watch in watches]
    await asyncio.sleep(0.5)
    began = time.perf_counter()
    await asyncio.gather(*(backend.put(Put(b"/fan/%d" % number, VALUE)) for number in range(events)))
    await asyncio.gather(*readers)
    took = time.perf_counter() - began
    for watch in watches:
        await watch.close()
    return watchers * events / took


Measure = Callable[[], Coroutine[Any, Any, Figures]]


def measurements(backends: list[Backend], scale: float) -> list[Measure]:
    """One for each group of rows; each can be taken any number of times."""
    counts = {1: 2000, 8: 8000, 64: 20_000, 256: 20_000}
    rounds = itertools.count()

    def puts_of(clients: int) -> Measure:
        async def measure() -> Figures:
            count = max(clients * 4, int(counts[clients] * scale))
            rate, p99 = await puts(backends, clients, count, next(rounds))
            return {f"puts/s, {clients} clients": rate, f"p99 ms, {clients} clients": p99}

        return measure

    async def ranges_of() -> Figures:
        return {"ms for a range of 500 keys": await ranges(backends[0])}

    async def fan_out_of() -> Figures:
        return {"events/s to 100 watchers": await fan_out(backends[0], 100, int(500 * scale))}

    return [*(puts_of(clients) for clients in CLIENTS), ranges_of, fan_out_of]


async def alternate(columns: dict[str, list[Backend]], scale: float, rounds: int) -> dict[str, list[Figures]]:
    """Every row of every column, ``rounds`` times, the columns taking turns: what drifts, drifts for all."""
    found: dict[str, list[Figures]] = {name: [{} for _ in range(rounds)] for name in columns}
    measures = {name: measurements(backends, scale / rounds) for name, backends in columns.items()}
    for group in zip(*measures.values(), strict=True):
        for turn in range(rounds):
            for name, measure in zip(columns, group, strict=True):
                found[name][turn] |= await measure()
    return found


async def compare(directory: Path, endpoints: dict[str, str], scale: float, rounds: int) -> dict[str, list[Figures]]:
    from tiphys.store.etcdclient import EtcdBackend

    store = await SQLiteBackend.open(directory, SystemClock())
    columns: dict[str, list[Backend]] = {INSIDE: [store]}
    for name, endpoint in endpoints.items():
        columns[name] = [EtcdBackend([endpoint], timeout=60) for _ in range(4)]
    try:
        return await alternate(columns, scale, rounds)
    finally:
        for backends in columns.values():
            for backend in backends:
                await backend.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def server(command: Command) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
    """A server's endpoint, process, and how long it took to become healthy."""
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
                    if b'"true"' in response.read():
                        break
            except (urllib.error.URLError, OSError):
                if time.perf_counter() - began > 60:
                    raise
                time.sleep(0.01)
        yield f"127.0.0.1:{port}", process, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def tiphys(directory: Path) -> Command:
    program = "import sys; from tiphys.store.command import main; sys.exit(main())"
    return lambda port: [
        *(sys.executable, "-c", program, f"--data-dir={directory}", "--log-level=error", "--quota-backend-bytes=-1"),
        *(f"--listen-client-urls=http://127.0.0.1:{port}", f"--advertise-client-urls=http://127.0.0.1:{port}"),
    ]


def etcd(directory: Path) -> Command:
    def command(port: int) -> list[str]:
        peer = f"http://127.0.0.1:{free_port()}"
        return [
            *("etcd", f"--data-dir={directory}", "--log-level=error", f"--listen-peer-urls={peer}"),
            *(f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
            *(f"--listen-client-urls=http://127.0.0.1:{port}", f"--advertise-client-urls=http://127.0.0.1:{port}"),
        ]

    return command


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    """Resident memory."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def fill(endpoint: str, keys: int) -> None:
    from tiphys.store.etcdclient import EtcdBackend

    backend = EtcdBackend([endpoint], timeout=60)

    async def client(start: int) -> None:
        for number in range(start, keys, 64):
            await backend.put(Put(b"/registry/things/namespace/%07d" % number, os.urandom(1024)))

    await asyncio.gather(*(client(start) for start in range(64)))
    await backend.close()


def footprint(command: Command, keys: int) -> Figures:
    """What a server takes with so many keys."""
    found: Figures = {}
    with server(command) as (endpoint, process, _):
        uvloop.run(fill(endpoint, keys))
        found[f"MB with {keys} keys of 1 KB, after writing"] = memory_mb(process)
    with server(command) as (_, process, took):
        found[f"MB with {keys} keys of 1 KB, started again"] = memory_mb(process)
        found[f"s to start with {keys} keys"] = took
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rounds", type=int, default=5, help="how often the columns take turns")
    parser.add_argument("--speed", action="store_true", help="leave out memory and start-up")
    parser.add_argument("--directory", help="where the data goes (default: a temporary directory)")
    options = parser.parse_args()
    scale = 0.1 if options.quick else 1.0
    place = Path(tempfile.mkdtemp(prefix="bench-store-", dir=options.directory))
    commands = {GRPC: tiphys(place / "served")}
    if shutil.which("etcd"):
        commands[ETCD] = etcd(place / "etcd")
    try:
        with ExitStack() as stack:
            endpoints = {name: stack.enter_context(server(command))[0] for name, command in commands.items()}
            found = uvloop.run(compare(place / "inside", endpoints, scale, options.rounds))
        show(found)
        if not options.speed:
            show({name: [footprint(command, int(100_000 * scale))] for name, command in commands.items()})
    finally:
        shutil.rmtree(place, ignore_errors=True)


def show(columns: dict[str, list[Figures]]) -> None:
    """The median of each row and column, and of the ratios to etcd within a round, with their least and greatest."""
    names = [name for name in columns if name != ETCD]
    print(f"{'':44}" + "".join(f"{name:>12}" for name in columns) + "".join(f"{name + '/etcd':>24}" for name in names))
    for row in columns[GRPC][0]:
        line = f"{row:44}"
        for turns in columns.values():
            value = statistics.median(turn[row] for turn in turns)
            line += f"{f'{value:,.2f}' if value < 100 else f'{value:,.0f}':>12}"
        for name in names if ETCD in columns else ():
            ratios = [ours[row] / theirs[row] for ours, theirs in zip(columns[name], columns[ETCD], strict=True)]
            text = f"{statistics.median(ratios):.2f}"
            line += f"{text + (f' ({min(ratios):.2f}-{max(ratios):.2f})' if len(ratios) > 1 else ''):>24}"
        print(line)


if __name__ == "__main__":
    main()
