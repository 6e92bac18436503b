"""Measures the store: in process, by gRPC, and real etcd on the same disk, in one run.

    python bench/store.py [--quick] [--directory DIR]

Prints durable puts per second and p99 at 1, 8, 64 and 256 clients; a range of 500 keys; watch fan-out; memory and
start-up time at 100,000 keys of 1 KB; and the ratios to etcd. Clients by gRPC are the same for both servers, in a
process of their own. Real etcd is skipped where it is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Backend, Put, Range, WatchRequest
from tiphys.store.sqlite import SQLiteBackend

CLIENTS = (1, 8, 64, 256)
VALUE = os.urandom(256)
Figures = dict[str, float]


async def puts(backends: list[Backend], clients: int, count: int) -> tuple[float, float]:
    """Puts per second, and the 99th percentile of their latency in milliseconds."""
    times: list[float] = []

    async def client(number: int) -> None:
        backend = backends[number % len(backends)]
        for turn in range(count // clients):
            began = time.perf_counter()
            await backend.put(Put(b"/bench/%d/%d/%d" % (clients, number, turn), VALUE))
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    took = time.perf_counter() - began
    times.sort()
    return len(times) / took, times[int(len(times) * 0.99)] * 1000


async def ranges(backend: Backend) -> float:
    """Milliseconds to read 500 keys of 1 KB."""
    for number in range(500):
        await backend.put(Put(b"/range/%04d" % number, bytes(1024)))
    rounds = 50
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


async def measure(backends: list[Backend], scale: float) -> Figures:
    found: Figures = {}
    for clients in CLIENTS:
        count = max(clients * 4, int({1: 2000, 8: 8000, 64: 20000, 256: 20000}[clients] * scale))
        found[f"puts/s, {clients} clients"], found[f"p99 ms, {clients} clients"] = await puts(backends, clients, count)
    found["ms for a range of 500 keys"] = await ranges(backends[0])
    found["events/s to 100 watchers"] = await fan_out(backends[0], 100, int(500 * scale))
    return found


async def in_process(directory: Path, scale: float) -> Figures:
    store = await SQLiteBackend.open(directory, SystemClock())
    try:
        return await measure([store], scale)
    finally:
        await store.close()


async def by_grpc(endpoint: str, scale: float) -> Figures:
    from tiphys.store.etcdclient import EtcdBackend

    backends: list[Backend] = [EtcdBackend([endpoint], timeout=60) for _ in range(4)]
    try:
        return await measure(backends, scale)
    finally:
        for backend in backends:
            await backend.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def server(command: Callable[[int], list[str]]) -> Iterator[tuple[str, subprocess.Popen[bytes], float]]:
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


def tiphys(directory: Path) -> Callable[[int], list[str]]:
    program = "import sys; from tiphys.store.command import main; sys.exit(main())"
    return lambda port: [
        *(sys.executable, "-c", program, f"--data-dir={directory}", "--log-level=error", "--quota-backend-bytes=-1"),
        *(f"--listen-client-urls=http://127.0.0.1:{port}", f"--advertise-client-urls=http://127.0.0.1:{port}"),
    ]


def etcd(directory: Path) -> Callable[[int], list[str]]:
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


def served(command: Callable[[int], list[str]], scale: float) -> Figures:
    keys = int(100_000 * scale)
    with server(command) as (endpoint, _, _):
        found = uvloop.run(by_grpc(endpoint, scale))
    with server(command) as (endpoint, process, _):
        uvloop.run(fill(endpoint, keys))
        found[f"MB with {keys} keys of 1 KB, after writing"] = memory_mb(process)
    with server(command) as (_, process, took):
        found[f"MB with {keys} keys of 1 KB, started again"] = memory_mb(process)
        found[f"s to start with {keys} keys"] = took
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--directory", help="where the data goes (default: a temporary directory)")
    options = parser.parse_args()
    scale = 0.1 if options.quick else 1.0
    place = Path(tempfile.mkdtemp(prefix="bench-store-", dir=options.directory))
    try:
        columns = {
            "in process": uvloop.run(in_process(place / "inside", scale)),
            "gRPC": served(tiphys(place / "served"), scale),
        }
        if shutil.which("etcd"):
            columns["etcd"] = served(etcd(place / "etcd"), scale)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    show(columns)


def show(columns: dict[str, Figures]) -> None:
    print(f"{'':44}" + "".join(f"{name:>14}" for name in columns) + f"{'inside/etcd':>14}{'gRPC/etcd':>12}")
    for row in columns["gRPC"]:
        cells = [figures.get(row) for figures in columns.values()]
        text = "".join(
            f"{'' if cell is None else f'{cell:,.2f}' if cell < 100 else f'{cell:,.0f}':>14}" for cell in cells
        )
        reference = columns.get("etcd", {}).get(row)
        ratios = ["" if cell is None or not reference else f"{cell / reference:.2f}" for cell in cells[:2]]
        print(f"{row:44}{text}{ratios[0]:>14}{ratios[1]:>12}")


if __name__ == "__main__":
    main()
