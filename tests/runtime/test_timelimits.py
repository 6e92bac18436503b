import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tiphys.runtime.clock import VirtualTimeLoop
from tiphys.runtime.timelimits import TimeLimits


def run(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


async def late(limits: TimeLimits, seconds: float, work: asyncio.Event) -> str:
    limit = limits.begin(seconds)
    try:
        await work.wait()
    except asyncio.CancelledError:
        if not limits.end(limit):
            raise
        return f"late at {limit.ends:.0f}"
    limits.end(limit)
    return "done"


def test_each_task_ends_at_its_own_time_and_the_others_go_on() -> None:
    async def work() -> None:
        limits, event = TimeLimits(), asyncio.Event()
        began = asyncio.get_running_loop().time()
        slow, second, first = (asyncio.create_task(late(limits, seconds, event)) for seconds in (3600, 20, 10))
        assert await asyncio.gather(first, second) == [f"late at {began + 10:.0f}", f"late at {began + 20:.0f}"]
        assert asyncio.get_running_loop().time() == began + 20
        assert first.cancelling() == 0
        third = asyncio.create_task(late(limits, 5, event))
        assert await third == f"late at {began + 25:.0f}"
        assert not slow.done()
        event.set()
        assert await slow == "done"

    run(work())


def test_a_cancellation_of_somebody_else_is_passed_on() -> None:
    async def work() -> None:
        limits, event = TimeLimits(), asyncio.Event()
        task = asyncio.create_task(late(limits, 3600, event))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


def test_a_task_that_is_late_and_cancelled_as_well_is_cancelled() -> None:
    async def work() -> None:
        limits, event = TimeLimits(), asyncio.Event()
        task = asyncio.create_task(late(limits, 10, event))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(10, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work())


def test_who_has_ended_is_not_cancelled() -> None:
    async def work() -> None:
        limits = TimeLimits()
        limits.end(limits.begin(10))
        await asyncio.sleep(20)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(work())
