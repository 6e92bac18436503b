from __future__ import annotations

import asyncio

from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.store.autocompact import Periodic, RevisionWindow, run
from tiphys.store.backend import Put
from tiphys.store.memory import MemoryBackend


def test_periodic_keeps_so_much_history() -> None:
    policy = Periodic(100.0)
    assert policy.interval == 10.0
    compacted = [policy.due(now, int(now)) for now in range(0, 300, 10)]
    assert compacted[:10] == [0] * 10
    assert compacted[10:13] == [0, 10, 20]
    assert compacted[-1] == 190


def test_revisions_keeps_so_many() -> None:
    policy = RevisionWindow(10)
    assert [policy.due(0, revision) for revision in (5, 10, 25)] == [0, 0, 15]


def test_a_store_is_compacted_as_time_goes_by() -> None:
    loop = VirtualTimeLoop()
    clock = VirtualClock(loop)

    async def main() -> int:
        store = MemoryBackend(clock)
        task = asyncio.create_task(run(store, Periodic(3600.0), clock))
        for _ in range(180):
            await store.put(Put(b"a"))
            await clock.sleep(60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()
        return store.core.revision - store.core.compacted

    try:
        assert 55 < loop.run_until_complete(main()) < 75
    finally:
        loop.close()
