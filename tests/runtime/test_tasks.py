"""Supervised loops, what health says of them, and members that are called one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tiphys.runtime.clock import VirtualClock, VirtualTimeLoop
from tiphys.runtime.tasks import Runner, contain, run_all


def run(work: Callable[[VirtualClock], Awaitable[None]]) -> None:
    loop = VirtualTimeLoop()
    try:
        loop.run_until_complete(work(VirtualClock(loop)))  # type: ignore[arg-type]
    finally:
        loop.close()


def test_a_loop_that_raises_is_started_again_and_in_trouble_until_it_is_steady() -> None:
    async def work(clock: VirtualClock) -> None:
        starts = 0

        async def loop() -> None:
            nonlocal starts
            starts += 1
            if starts < 3:
                raise ValueError("no")
            await asyncio.Event().wait()

        async with Runner(clock) as runner:
            runner.supervise(loop, "a loop")
            assert runner.troubles() == {}
            await clock.sleep(0.05)
            assert runner.troubles() == {"a loop": "ValueError: no"}
            await clock.sleep(0.5)
            assert (starts, list(runner.troubles())) == (3, ["a loop"])
            await clock.sleep(1)
            assert runner.troubles() == {}

    run(work)


def test_a_loop_that_always_raises_is_in_trouble_from_its_first_failure_on() -> None:
    async def work(clock: VirtualClock) -> None:
        async def loop() -> None:
            await clock.sleep(0.2)
            raise ValueError("never")

        async with Runner(clock) as runner:
            runner.supervise(loop, "a loop")
            await clock.sleep(61)
            assert list(runner.troubles(60)) == ["a loop"]
            assert runner.troubles(70) == {}

    run(work)


def test_a_loop_outlives_the_cancellation_of_what_it_waits_for_but_not_its_own() -> None:
    async def work(clock: VirtualClock) -> None:
        starts = 0
        shared: list[asyncio.Future[None]] = []

        async def loop() -> None:
            nonlocal starts
            starts += 1
            shared.append(asyncio.get_running_loop().create_future())
            await shared[-1]

        async with Runner(clock) as runner:
            task = runner.supervise(loop, "a loop")
            await clock.sleep(0)
            shared[0].cancel()
            await clock.sleep(1)
            assert starts == 2
            task.cancel()
            await clock.sleep(1)
            assert task.cancelled()

    run(work)


def test_a_member_that_raises_does_not_keep_the_next_from_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def member(name: str) -> None:
        called.append(name)
        if name == "bad":
            raise ValueError(name)

    results = [contain(f"member {name}", member, name) for name in ("a", "bad", "c")]
    assert (called, results) == (["a", "bad", "c"], [True, False, True])
    assert "member bad failed" in caplog.text


def test_what_runs_together_ends_together() -> None:
    async def work(clock: VirtualClock) -> None:
        ended: list[str] = []

        async def waits() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("waits")

        async def fails() -> None:
            await clock.sleep(1)
            raise ValueError("one of them")

        with pytest.raises(ValueError, match="one of them"):
            await run_all(waits, fails)
        assert ended == ["waits"]

    run(work)
