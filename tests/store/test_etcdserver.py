"""What etcd's clients see of the served store, on the wire: watch streams, TLS, plain HTTP beside gRPC, bad input."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.store.etcds import embedded, served
from tests.wire.certificates import Authority
from tiphys.store.backend import Put, StoreError, Unavailable
from tiphys.store.etcdchannel import ClientTLS
from tiphys.store.etcdclient import EtcdBackend
from tiphys.store.etcdpb import pb
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.server import EtcdServer
from tiphys.store.sqlite import SQLiteBackend
from tiphys.wire.grpc.connection import PREFACE
from tiphys.wire.grpc.frames import DATA, GOAWAY, HEADERS, SETTINGS, frame
from tiphys.wire.tls.contexts import server_context

Scenario = Callable[[SQLiteBackend, str], Awaitable[None]]


def play(directory: Path, scenario: Scenario) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), embedded(directory) as store, served(store) as endpoint:
            await scenario(store, endpoint)

    asyncio.run(main())


class Stream:
    """A watch stream of raw messages."""

    def __init__(self, backend: EtcdBackend) -> None:
        self._call: Any = backend.channels.stream(backend.channels.method("Watch", "Watch"))[1]

    async def create(self, key: str, **more: Any) -> Any:
        request = pb.WatchCreateRequest(key=key.encode(), **more)
        await self._call.write(pb.WatchRequest(create_request=request))
        return await self.read()

    async def cancel(self, id: int) -> None:
        await self._call.write(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=id)))

    async def progress(self) -> None:
        await self._call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    async def read(self) -> Any:
        return await asyncio.wait_for(self._call.read(), 5)


def test_one_stream_carries_many_watches(tmp_path: Path) -> None:
    async def scenario(store: SQLiteBackend, endpoint: str) -> None:
        backend = EtcdBackend([endpoint])
        stream = Stream(backend)
        first, second = await stream.create("a"), await stream.create("b")
        assert (first.watch_id, first.created, second.watch_id) == (0, True, 1)
        assert first.header.revision == 1
        assert (await stream.create("c", watch_id=7)).watch_id == 7
        again = await stream.create("c", watch_id=7)
        assert (again.watch_id, again.canceled) == (-1, True)
        assert "duplicate watch ID" in again.cancel_reason
        empty = await stream.create("c", range_end=b"b")
        assert (empty.canceled, empty.cancel_reason) == (True, "mvcc: watcher range is empty")
        await store.put(Put(b"b", b"1"))
        told = await stream.read()
        assert (told.watch_id, told.events[0].kv.value, told.header.revision) == (1, b"1", 2)
        await stream.cancel(1)
        gone = await stream.read()
        assert (gone.watch_id, gone.canceled) == (1, True)
        await store.put(Put(b"b", b"2"))
        await store.put(Put(b"a", b"2"))
        assert (await stream.read()).watch_id == 0
        await stream.progress()
        progress = await stream.read()
        assert (progress.watch_id, progress.header.revision, len(progress.events)) == (-1, 4, 0)
        await store.compact(4)
        late = await stream.create("a", start_revision=2)
        cancelled = await stream.read()
        assert late.created
        assert (cancelled.canceled, cancelled.compact_revision, cancelled.watch_id) == (True, 4, late.watch_id)
        await backend.close()
        async with asyncio.timeout(60):
            while store.hub.watches:  # the server forgets the watches of a client that is gone
                await asyncio.sleep(0.01)

    play(tmp_path, scenario)


def test_a_reader_that_stands_still_does_not_fill_the_server(tmp_path: Path) -> None:
    async def scenario(store: SQLiteBackend, endpoint: str) -> None:
        backend = EtcdBackend([endpoint])
        stream = Stream(backend)
        await stream.create("k", range_end=b"l")
        for turn in range(20):
            await asyncio.gather(*(store.put(Put(b"k%d" % number, bytes(2000))) for number in range(1000)))
            (watch,) = store.hub.watches
            assert watch._buffered <= 10_000, turn
        seen = 0
        last = 0
        while seen < 20_000:
            for event in (await stream.read()).events:
                assert event.kv.mod_revision == last + 1 or last == 0
                last = event.kv.mod_revision
                seen += 1
        await backend.close()

    play(tmp_path, scenario)


def test_plain_http_beside_grpc(tmp_path: Path) -> None:
    async def get(endpoint: str, path: str) -> tuple[str, bytes]:
        host, _, port = endpoint.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].decode(), body

    async def scenario(store: SQLiteBackend, endpoint: str) -> None:
        assert json.loads((await get(endpoint, "/health"))[1]) == {"health": "true", "reason": ""}
        assert json.loads((await get(endpoint, "/version"))[1])["etcdserver"].startswith("3.")
        assert (await get(endpoint, "/readyz"))[1] == b"ok\n"
        metrics = (await get(endpoint, "/metrics"))[1]
        assert b"etcd_server_has_leader 1.0" in metrics
        assert b"etcd_debugging_mvcc_current_revision 1.0" in metrics
        assert (await get(endpoint, "/nothing"))[0].split()[1] == "404"
        await store.set_no_space(on=True)
        status, body = await get(endpoint, "/health")
        assert status.split()[1] == "503"
        assert json.loads(body)["reason"] == "ALARM NOSPACE"

    play(tmp_path, scenario)


def test_bad_input_ends_a_connection_and_nothing_else(tmp_path: Path) -> None:
    window = struct.pack(">I", 0)
    attacks = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" + bytes(100),
        PREFACE + b"\xff" * 100,
        PREFACE + frame(HEADERS, 4, 2, b"\x82"),
        PREFACE + frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),
        PREFACE + frame(HEADERS, 0, 1, b"\x82") + frame(DATA, 0, 1, b"x"),
        PREFACE + frame(SETTINGS, 0, 0, b"12345"),
        PREFACE + frame(9, 4, 1, b"\x82"),
        PREFACE + frame(8, 0, 0, window[:2]),
        PREFACE + frame(5, 0, 1, b""),
        b"\x00" * 50,
        b"GARBAGE\r\n\r\n",
    ]

    async def scenario(store: SQLiteBackend, endpoint: str) -> None:
        host, _, port = endpoint.partition(":")
        for attack in attacks:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(attack)
            answer = await asyncio.wait_for(reader.read(), 5)
            if attack.startswith(PREFACE):
                assert bytes([GOAWAY]) in answer[3:]
            writer.close()
        backend = EtcdBackend([endpoint])
        assert await backend.current_revision() == 1
        await backend.close()

    play(tmp_path, scenario)


def test_large_answers_and_refused_requests(tmp_path: Path) -> None:
    async def scenario(store: SQLiteBackend, endpoint: str) -> None:
        for number in range(40):
            await store.put(Put(b"k%d" % number, bytes(500_000)))
        backend = EtcdBackend([endpoint])
        method = backend.channels.method("KV", "Range")
        request = pb.RangeRequest(key=b"k", range_end=b"l")
        answers = await asyncio.gather(*(backend.channels.unary(method, request, repeatable=True) for _ in range(3)))
        assert [sum(len(kv.value) for kv in answer.kvs) for answer in answers] == [20_000_000] * 3
        with pytest.raises(StoreError, match="larger than max"):
            await backend.put(Put(b"a", bytes(3_000_000)))
        call = backend.channels.channel(0).unary_unary("/etcdserverpb.KV/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        call = backend.channels.channel(0).unary_unary(method.path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INTERNAL
        await backend.close()

    play(tmp_path, scenario)


def test_tls_with_client_certificates(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority("other-ca")

    def write(name: str, *parts: bytes) -> Path:
        (tmp_path / name).write_bytes(b"".join(parts))
        return tmp_path / name

    ca = write("ca.pem", authority.pem)
    server_cert, server_key = authority.issue("localhost", server=True)
    context = server_context(server_cert, server_key, authority.pem)

    def client(who: Authority | None) -> ClientTLS:
        if who is None:
            return ClientTLS(ca)
        cert, key = who.issue("someone")
        return ClientTLS(ca, write(f"{id(who)}.crt", cert), write(f"{id(who)}.key", key))

    async def main() -> None:
        async with embedded(tmp_path / "data") as store:
            server = EtcdServer(Member(store))
            port = await server.listen("127.0.0.1", 0, context, need_certificate=True)
            good = EtcdBackend([f"https://127.0.0.1:{port}"], tls=client(authority))
            assert (await good.put(Put(b"a"))).revision == 2
            await good.close()
            for who in (None, stranger):
                bad = EtcdBackend([f"https://127.0.0.1:{port}"], tls=client(who), timeout=1)
                with pytest.raises(Unavailable):
                    await bad.current_revision()
                await bad.close()
            plain = EtcdBackend([f"http://127.0.0.1:{port}"], timeout=1)
            with pytest.raises(Unavailable):
                await plain.current_revision()
            await plain.close()
            trusting = ssl.create_default_context(cafile=str(ca))
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.read() == b""  # without a certificate there is no health either
            writer.close()
            await server.stop(0)

    asyncio.run(asyncio.wait_for(main(), 30))
