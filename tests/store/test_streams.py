"""The stream by which a watch follows etcd: who asks for progress and leaves, and what becomes of a stream that is dead
without having ended, as behind a firewall that has forgotten it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.store.etcds import HAVE_ETCD, embedded, real_etcd, served
from tiphys.store import etcdclient
from tiphys.store.backend import Put, WatchRequest
from tiphys.store.etcdclient import EtcdBackend

KINDS = ["grpc", pytest.param("etcd", marks=pytest.mark.etcd)]
EVERYTHING = b"\0"


class Middlebox:
    """Carries connections to ``target``, until it forgets those that are open: it reads on and passes nothing."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._memory = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.opened = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def forget(self) -> None:
        self._memory += 1

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            self._tasks.add(asyncio.ensure_future(self._carry(source, target, self._memory)))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, memory: int) -> None:
        try:
            while data := await source.read(65536):
                if memory == self._memory:
                    target.write_context(data)
        finally:
            target.close()


@asynccontextmanager
async def endpoint_of(kind: str, directory: Path) -> AsyncIterator[str]:
    if kind == "grpc":
        async with embedded(directory) as store, served(store) as address:
            yield address
    else:
        if not HAVE_ETCD:
            pytest.skip("etcd is not installed")
        with real_etcd(directory) as members:
            yield members[0].endpoint


@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_for_progress_and_leaves_ends_nothing(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with endpoint_of(kind, tmp_path) as endpoint:
            store = EtcdBackend([endpoint])
            watch = await store.watch(WatchRequest(EVERYTHING, EVERYTHING))
            for number in range(50):
                asking = asyncio.ensure_future(watch.request_progress())
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                asking.cancel()
                reading = asyncio.ensure_future(anext(watch))
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                reading.cancel()
                await asyncio.gather(asking, reading, return_exceptions=True)
            await store.put(Put(b"/last", b"x"))
            async with asyncio.timeout(60):
                async for batch in watch:
                    if any(event.kv.key == b"/last" for event in batch.events):
                        break
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_dead_without_an_end_is_noticed_and_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcdclient, "SILENT_SECONDS", 0.3)

    async def main() -> None:
        async with endpoint_of(kind, tmp_path) as endpoint:
            box = Middlebox(endpoint)
            async with box.listening() as through:
                direct, store = EtcdBackend([endpoint]), EtcdBackend([through, endpoint])
                watch = await store.watch(WatchRequest(EVERYTHING, EVERYTHING))
                await direct.put(Put(b"/first", b"x"))
                seen = [event.kv.key for event in (await anext(watch)).events]
                box.forget()
                missed = [b"/missed%d" % number for number in range(3)]
                for key in missed:
                    await direct.put(Put(key, b"x"))
                await watch.request_progress()
                async with asyncio.timeout(60):
                    while len(seen) < 4:
                        seen += [event.kv.key for event in (await anext(watch)).events]
                assert seen == [b"/first", *missed]
                await store.close()
                await direct.close()

    asyncio.run(main())
