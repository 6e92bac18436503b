"""Three members of real etcd: the leader is killed under load; nothing acknowledged is lost, and writing goes on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.store.etcds import HAVE_ETCD, RealMember, real_etcd
from tiphys.store.backend import Put, Range, Unavailable, WatchRequest
from tiphys.store.etcdclient import EtcdBackend
from tiphys.store.etcdpb import pb

pytestmark = [pytest.mark.etcd, pytest.mark.skipif(not HAVE_ETCD, reason="etcd is not installed")]

CLIENTS = 8
RESUMED_WITHIN = 10.0


async def leader_of(members: list[RealMember]) -> RealMember:
    for member in members:
        backend = EtcdBackend([member.endpoint])
        try:
            method = backend.channels.method("Maintenance", "Status")
            status = await backend.channels.unary(method, pb.StatusRequest(), repeatable=True)
            if status.leader == status.header.member_id:
                return member
        finally:
            await backend.close()
    raise AssertionError("no member is the leader")


def test_the_leader_is_killed(tmp_path: Path) -> None:
    with real_etcd(tmp_path, members=3) as members:

        async def main() -> None:
            leader = await leader_of(members)
            # the leader first, so that it is the member in use when it dies
            endpoints = [leader.endpoint] + [member.endpoint for member in members if member is not leader]
            backend = EtcdBackend(endpoints, timeout=3.0)
            watch = await backend.watch(WatchRequest(b"/w/", b"/w0"))
            acknowledged: dict[bytes, int] = {}
            last_before = first_after = 0.0
            killed = asyncio.Event()
            resumed = asyncio.Event()

            async def writer(number: int) -> None:
                nonlocal first_after
                count = 0
                while not resumed.is_set() or count < 50:
                    count += 1
                    key = b"/w/%d/%06d" % (number, count)
                    try:
                        acknowledged[key] = (await backend.put(Put(key, b"x"))).revision
                    except Unavailable:
                        await asyncio.sleep(0.05)
                        continue
                    if killed.is_set():
                        first_after = first_after or time.monotonic()
                        if len(acknowledged) > before + 200:
                            resumed.set()

            seen: list[tuple[int, bytes]] = []

            async def reader() -> None:
                async for batch in watch:
                    seen.extend((event.kv.mod_revision, event.kv.key) for event in batch.events)

            reading = asyncio.create_task(reader())
            before = 1 << 60
            writers = [asyncio.create_task(writer(number)) for number in range(CLIENTS)]
            while len(acknowledged) < 300:
                await asyncio.sleep(0.01)
            before = len(acknowledged)
            last_before = time.monotonic()
            leader.kill()
            killed.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*writers)
            assert first_after - last_before < RESUMED_WITHIN
            found = {kv.key: kv.mod_revision for kv in (await backend.range(Range(b"/w/", b"/w0"))).kvs}
            assert {key: found.get(key) for key in acknowledged} == acknowledged
            async with asyncio.timeout(60):
                while len(seen) < len(found):
                    await asyncio.sleep(0.01)
            reading.cancel()
            assert seen == sorted((revision, key) for key, revision in found.items())
            await backend.close()

        asyncio.run(main())
