"""How many keys a range has, and its first ones, are known without looking at all of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Compacted, Delete, Put, Range
from tiphys.store.memory import MemoryBackend
from tiphys.store.mvcc import index
from tiphys.store.mvcc.index import KeyEntry

KEYS = [b"/k/%03d" % number for number in range(60)]


@pytest.mark.parametrize("seed", range(8))
def test_pages_and_counts_of_any_revision_are_those_of_the_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the revisions lie further back than the changes that are kept in mind."""
    monkeypatch.setattr(index, "RECENT", 20)
    dice = random.Random(seed)

    async def check() -> None:
        store = MemoryBackend(SystemClock())
        try:
            for step in range(150):
                await change(store, dice)
                if step == 100:
                    await store.compact(await store.current_revision() - 5, physical=True)
                await compare(store, dice)
        finally:
            await store.close()

    asyncio.run(check())


async def change(store: MemoryBackend, dice: random.Random) -> None:
    key = dice.choice(KEYS)
    match dice.randrange(5):
        case 0:
            await store.delete(Delete(key))
        case 1:
            await store.delete(Delete(key, key[:-1] + b":"))
        case _:
            await store.put(Put(key, b"%d" % dice.randrange(9)))


async def compare(store: MemoryBackend, dice: random.Random) -> None:
    start, end = sorted((dice.choice(KEYS), dice.choice([*KEYS, b"\0"])))
    if start == b"\0":
        start, end = end, start
    revision = max(1, await store.current_revision() - dice.randrange(40))
    limit = dice.randrange(1, 8)
    try:
        whole = await store.range(Range(start, end, revision=revision))
    except Compacted:
        return
    page = await store.range(Range(start, end, revision=revision, limit=limit))
    counted = await store.range(Range(start, end, revision=revision, count_only=True))
    assert page.kvs == whole.kvs[:limit]
    assert (page.count, page.more) == (whole.count, whole.count > limit)
    assert counted.count == whole.count == len(whole.kvs)


def test_a_page_looks_at_no_more_keys_the_more_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: Counter[str] = Counter()
    row_at = KeyEntry.row_at

    def counted(self: KeyEntry, revision: int) -> int:
        looked["keys"] += 1
        return row_at(self, revision)

    async def steps(total: int) -> int:
        store = MemoryBackend(SystemClock())
        for number in range(total):
            await store.put(Put(b"/k/%06d" % number))
        revision = await store.current_revision()
        await store.put(Put(b"/k/000001"))
        looked.clear()
        page: Any = await store.range(Range(b"/k/", b"/k0", revision=revision, limit=100))
        await store.close()
        assert (len(page.kvs), page.count, page.more) == (100, total, True)
        return looked["keys"]

    monkeypatch.setattr(KeyEntry, "row_at", counted)
    assert asyncio.run(steps(5000)) == asyncio.run(steps(500)) < 110
