"""Work queues: every rule of client-go's that controllers rely on, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.controlkit.queue import QueueShutDown, RateLimiter, WorkQueue
from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop


def run(work: Any) -> Any:
    """Run ``work(clock)`` in an event loop of virtual time."""
    loop = VirtualTimeLoop()
    try:
        coroutine: Coroutine[Any, Any, Any] = work(VirtualClock(loop))
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def test_a_key_is_in_the_queue_once() -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        for key in ("a", "b", "a"):
            queue.add(key)
        assert len(queue) == 2
        assert [await queue.get(), await queue.get()] == ["a", "b"]

    run(work)


def test_a_key_that_is_worked_on_is_given_out_again_only_when_done() -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert len(queue) == 1
        assert await queue.get() == "a"
        queue.done("a")
        assert len(queue) == 0

    run(work)


def test_of_several_delays_the_earliest_counts() -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add_after("a", 10)
        queue.add_after("a", 3)
        queue.add_after("a", 7)
        assert await queue.get() == "a"
        assert clock.monotonic() == pytest.approx(3)
        queue.done("a")
        await clock.sleep(20)
        assert len(queue) == 0

    run(work)


def test_failures_wait_longer_and_longer_until_forgotten() -> None:
    async def work(clock: VirtualClock) -> None:
        limiter: RateLimiter[str] = RateLimiter(clock)
        assert [limiter.when("a") for _ in range(5)] == [0.005, 0.01, 0.02, 0.04, 0.08]
        assert limiter.failures("a") == 5
        assert limiter.when("b") == 0.005
        limiter.forget("a")
        assert limiter.when("a") == 0.005
        for _ in range(70):
            longest = limiter.when("c")
        assert longest == 1000.0

    run(work)


def test_over_all_keys_ten_a_second_may_be_retried_after_a_hundred() -> None:
    async def work(clock: VirtualClock) -> None:
        limiter: RateLimiter[int] = RateLimiter(clock)
        waits = [limiter.when(key) for key in range(110)]
        assert set(waits[:100]) == {0.005}
        assert waits[100:] == pytest.approx([0.1 * n for n in range(1, 11)])

    run(work)


def test_a_waiting_worker_gets_the_key_and_a_cancelled_one_passes_it_on() -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        first, second = (asyncio.ensure_future(queue.get()) for _ in range(2))
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a"

    run(work)


def test_shut_down_gives_out_what_is_ready_and_then_ends() -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        queue.add("a")
        queue.add_after("b", 5)
        queue.shut_down()
        queue.add("c")
        assert await queue.get() == "a"
        with pytest.raises(QueueShutDown):
            await queue.get()

    run(work)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=40))
def test_nothing_added_is_lost_and_nothing_is_worked_on_twice_at_once(adds: list[tuple[str, int]]) -> None:
    async def work(clock: VirtualClock) -> None:
        queue: WorkQueue[str] = WorkQueue(clock)
        working: set[str] = set()
        last_done: dict[str, float] = {}

        async def worker() -> None:
            while True:
                key = await queue.get()
                assert key not in working
                working.add(key)
                last_done[key] = clock.monotonic()
                await clock.sleep(1)
                working.discard(key)
                queue.done(key)

        workers = [asyncio.ensure_future(worker()) for _ in range(2)]
        last_added: dict[str, float] = {}
        for key, pause in adds:
            queue.add(key)
            last_added[key] = clock.monotonic()
            await clock.sleep(pause)
        await clock.sleep(100)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        assert all(last_done[key] >= added for key, added in last_added.items())

    run(work)
