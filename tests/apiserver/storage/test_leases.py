"""Objects that expire share leases of the store: for how long, and how much longer they live."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.apiserver.storage.leases import Leases
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.store.memory import MemoryBackend


@pytest.mark.parametrize(("ttl", "reuse", "shared"), [(3600, 60, 60), (3600, 600, 180), (100, 60, 5), (10, 60, 0)])
def test_a_lease_is_shared_as_long_as_the_flag_says_or_a_twentieth_of_a_life(ttl: int, reuse: int, shared: int) -> None:
    async def work(clock: VirtualClock) -> None:
        store = MemoryBackend(clock)
        leases = Leases(store, clock, reuse)
        first = await leases.lease(ttl)
        assert (await store.lease_status(first)).granted_ttl == ttl + shared
        await clock.sleep(max(0, shared - 1))
        assert (await leases.lease(ttl) == first) is (shared > 0)
        await clock.sleep(1)
        assert await leases.lease(ttl) != first
        await store.close()

    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(VirtualClock(loop)))
