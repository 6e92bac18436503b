"""Snapshots: from the embedded store into real etcd and back, with every revision and version kept."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.etcds import HAVE_ETCD, RealMember, embedded, free_ports, real_etcd, served
from tiphys.store import bbolt, snapshot
from tiphys.store.backend import Backend, Compacted, Delete, KeyValue, Put, Range, Txn
from tiphys.store.etcdclient import EtcdBackend
from tiphys.store.restore import restore
from tiphys.store.sqlfile import CannotOpen


async def fill(store: Backend) -> int:
    """Some history: overwritten, deleted and created again, a lease, large values, a compaction."""
    for number in range(300):
        await store.put(Put(b"/k/%03d" % number, b"v%d" % number))
    for number in range(0, 300, 3):
        await store.put(Put(b"/k/%03d" % number, b"again"))
    for number in range(0, 300, 7):
        await store.delete(Delete(b"/k/%03d" % number))
    await store.put(Put(b"/k/000", b"back"))
    lease = await store.lease_grant(5000, 77)
    await store.put(Put(b"/leased", b"x", lease.id))
    await store.put(Put(b"/large", os.urandom(300_000)))
    await store.txn(Txn([], [Put(b"/t/1"), Put(b"/t/2"), Delete(b"/k/001")]))
    revision = await store.current_revision()
    await store.compact(revision - 150, physical=True)
    await store.put(Put(b"/last"))
    return revision


async def everything(store: Backend, revision: int = 0) -> list[KeyValue]:
    return list((await store.range(Range(b"\0", b"\0", revision))).kvs)


def etcdctl(*words: str, endpoint: str = "") -> str:
    environment = {"PATH": os.environ["PATH"], "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": endpoint}
    done = subprocess.run(["etcdctl", *words], capture_output=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.etcd
@pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")
def test_there_and_back_again(tmp_path: Path) -> None:
    async def there() -> tuple[list[KeyValue], list[KeyValue], int]:
        async with embedded(tmp_path / "first") as store, served(store) as endpoint:
            revision = await fill(store)
            await asyncio.to_thread(etcdctl, "snapshot", "save", str(tmp_path / "one.db"), endpoint=endpoint)
            return await everything(store), await everything(store, revision - 100), revision

    async def in_etcd(endpoint: str) -> tuple[list[KeyValue], list[KeyValue], int]:
        client = EtcdBackend([endpoint])
        try:
            found = await everything(client), await everything(client, revision - 100)
            status = await client.lease_status(77, keys=True)
            assert list(status.keys) == [b"/leased"]
            assert status.granted_ttl == 5000
            now = await client.current_revision()
            with pytest.raises(Compacted):
                await everything(client, revision - 151)
            await client.put(Put(b"/from-etcd", b"1"))
            await client.delete(Delete(b"/k/100"))
            await asyncio.to_thread(etcdctl, "snapshot", "save", str(tmp_path / "two.db"), endpoint=endpoint)
            return *found, now
        finally:
            await client.close()

    async def back() -> list[KeyValue]:
        async with embedded(tmp_path / "second") as store:
            assert await store.current_revision() == revision + 3
            assert await everything(store, revision - 100) == old
            assert list((await store.lease_status(77, keys=True)).keys) == [b"/leased"]
            return await everything(store)

    new, old, revision = asyncio.run(there())
    client, peer = free_ports(2)
    member = RealMember("m0", tmp_path / "etcd", client, peer)
    member.cluster = [member]
    url = f"http://127.0.0.1:{peer}"
    etcdctl(
        *("snapshot", "restore", str(tmp_path / "one.db"), f"--data-dir={member.directory}", "--name=m0"),
        *(f"--initial-cluster=m0={url}", f"--initial-advertise-peer-urls={url}"),
    )
    try:
        member.start()
        member.wait()
        assert asyncio.run(in_etcd(member.endpoint)) == (new, old, revision + 1)
    finally:
        member.kill()
    restore(tmp_path / "two.db", tmp_path / "second")
    last = asyncio.run(back())
    expected = {kv.key: kv for kv in new if kv.key != b"/k/100"}
    expected[b"/from-etcd"] = KeyValue(b"/from-etcd", b"1", revision + 2, revision + 2, 1)
    assert {kv.key: kv for kv in last} == expected


@pytest.mark.etcd
@pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")
def test_the_hash_of_the_same_history_is_etcds(tmp_path: Path) -> None:
    async def hash_of(endpoint: str) -> list[tuple[int, int]]:
        from tiphys.store.etcdpb import pb

        client = EtcdBackend([endpoint])
        try:
            await fill(client)
            now = await client.current_revision()
            method = client.channels.method("Maintenance", "HashKV")
            found = []
            for revision in (0, now - 20, now - 100):
                request = pb.HashKVRequest(revision=revision)
                found.append((await client.channels.unary(method, request, repeatable=True)).hash)
            return found
        finally:
            await client.close()

    async def ours() -> list[tuple[int, int]]:
        async with embedded(tmp_path / "ours") as store, served(store) as endpoint:
            return await hash_of(endpoint)

    os_urandom, os.urandom = os.urandom, lambda size: bytes(size)  # both get the same large value
    try:
        with real_etcd(tmp_path / "etcd") as (member,):
            theirs = asyncio.run(hash_of(member.endpoint))
        assert asyncio.run(ours()) == theirs
    finally:
        os.urandom = os_urandom


def test_a_snapshot_that_is_damaged_or_cut_is_refused(tmp_path: Path) -> None:
    async def save() -> None:
        from tiphys.store.etcdserver.maintenance import Maintenance
        from tiphys.store.etcdserver.member import Member

        async with embedded(tmp_path / "data") as store:
            await store.put(Put(b"a", b"1"))
            parts = [part.blob async for part in Maintenance(Member(store), 0).Snapshot(None)]
            (tmp_path / "good.db").write_bytes(b"".join(parts))

    asyncio.run(save())
    good = (tmp_path / "good.db").read_bytes()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    with pytest.raises(snapshot.BadSnapshot, match="SHA-256"):
        restore(damaged, tmp_path / "x")
    damaged.write_bytes(good[:-32])
    with pytest.raises(snapshot.BadSnapshot, match="missing hash"):
        restore(damaged, tmp_path / "y")
    assert restore(damaged, tmp_path / "z", skip_hash=True) == (1, 2)
    with pytest.raises(CannotOpen, match="not empty"):
        restore(tmp_path / "good.db", tmp_path / "data")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=9000), max_size=60))
def test_bbolt_files_read_back(tmp_path_factory: pytest.TempPathFactory, pairs: dict[bytes, bytes]) -> None:
    path = tmp_path_factory.mktemp("bbolt") / "db"
    ordered = sorted(pairs.items())
    with path.open("wb") as file:
        bbolt.write(file, [(b"empty", ()), (b"full", ordered)])
    with bbolt.Reader(path) as reader:
        assert reader.buckets() == [b"empty", b"full"]
        assert list(reader.bucket(b"full")) == ordered
        assert list(reader.bucket(b"empty")) == []
        assert list(reader.bucket(b"none")) == []
        assert path.stat().st_size == reader.pages * reader.page_size
