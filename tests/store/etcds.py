"""Real etcd processes for tests, and the embedded store served by gRPC."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Backend
from tiphys.store.embedded import Embedded
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.server import EtcdServer
from tiphys.store.memory import MemoryBackend
from tiphys.store.sharing import SharedStore, share
from tiphys.store.sqlite import SQLiteBackend

HAVE_ETCD = shutil.which("etcd") is not None and shutil.which("etcdctl") is not None


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class RealMember:
    name: str
    directory: Path
    client: int
    peer: int
    process: subprocess.Popen[bytes] | None = None
    cluster: list[RealMember] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client}"

    def start(self) -> None:
        members = ",".join(f"{member.name}=http://127.0.0.1:{member.peer}" for member in self.cluster)
        self.process = subprocess.Popen(
            [
                "etcd",
                f"--name={self.name}",
                f"--data-dir={self.directory}",
                f"--listen-client-urls=http://127.0.0.1:{self.client}",
                f"--advertise-client-urls=http://127.0.0.1:{self.client}",
                f"--listen-peer-urls=http://127.0.0.1:{self.peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{self.peer}",
                f"--initial-cluster={members}",
                "--log-level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"]},
        )

    def wait(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=2) as response:
                    if b'"true"' in response.read():
                        return
            except (URLError, OSError):
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"etcd {self.name} does not become healthy")
            time.sleep(0.05)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


@contextmanager
def real_etcd(directory: Path, members: int = 1) -> Iterator[list[RealMember]]:
    """Real etcd, ready to serve; its data in ``directory``."""
    ports = free_ports(2 * members)
    cluster = [
        RealMember(f"m{number}", directory / f"m{number}", ports[2 * number], ports[2 * number + 1])
        for number in range(members)
    ]
    for member in cluster:
        member.cluster = cluster
    try:
        for member in cluster:
            member.start()
        for member in cluster:
            member.wait()
        yield cluster
    finally:
        for member in cluster:
            member.kill()


@asynccontextmanager
async def served(store: Embedded) -> AsyncIterator[str]:
    """A store served by gRPC; gives its endpoint."""
    server = EtcdServer(Member(store))
    port = await server.listen("127.0.0.1", 0)
    server.pages.member.client_urls = [f"http://127.0.0.1:{port}"]
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def embedded(directory: Path) -> AsyncIterator[SQLiteBackend]:
    store = await SQLiteBackend.open(directory, SystemClock())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def backend_of(kind: str, directory: Path, endpoint: str) -> AsyncIterator[Backend]:
    """A store: in ``memory``, in ``sqlite``, that one by ``grpc``, ``shared`` as workers have it, or real ``etcd``."""
    if kind == "memory":
        memory = MemoryBackend(SystemClock())
        yield memory
        await memory.close()
    elif kind == "sqlite":
        async with embedded(directory) as store:
            yield store
    elif kind == "grpc":
        async with embedded(directory) as store, served(store) as address, client_of(address) as client:
            yield client
    elif kind == "shared":
        folder = directory / "share"
        folder.mkdir(parents=True)
        async with embedded(directory) as store:
            server = await share(store, folder)
            client = SharedStore(folder, SystemClock())
            yield client
            await client.close()
            await server.stop(0)
    else:
        async with client_of(endpoint) as client:
            yield client


@asynccontextmanager
async def client_of(endpoint: str) -> AsyncIterator[Backend]:
    from tiphys.store.etcdclient import EtcdBackend

    client = EtcdBackend([endpoint])
    yield client
    await client.close()
