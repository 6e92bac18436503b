"""Coroutines whose first step is run by hand: the rest returns, fails and is cancelled as the whole would be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tiphys.wire.firststep import rest_of


async def in_two(work: Awaitable[str]) -> str:
    steps = work.__await__()
    try:
        waits_for = steps.send(None)
    except StopIteration as done:
        return str(done.value)
    return await rest_of(steps, waits_for)


async def waits(times: int) -> str:
    for _ in range(times):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize("times", [0, 1, 3])
def test_it_returns_what_the_whole_returns(times: int) -> None:
    assert asyncio.run(in_two(waits(times))) == "done"


def test_it_fails_as_the_whole_fails() -> None:
    async def fails() -> str:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        asyncio.run(in_two(fails()))


def cancelled(work: Callable[[], Awaitable[str]]) -> str | None:
    """What work ends with that is cancelled while it waits for the first time; None: it was cancelled."""

    async def main() -> str | None:
        task = asyncio.ensure_future(in_two(work()))
        await asyncio.sleep(0)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None

    return asyncio.run(main())


def test_cancelled_at_its_first_wait_it_ends() -> None:
    assert cancelled(lambda: waits(0)) is None


def test_cancelled_it_may_wait_once_more_before_it_ends() -> None:
    seen: list[str] = []

    async def tidy() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.001)
            seen.append("tidied")
        return "never"

    assert cancelled(tidy) is None
    assert seen == ["tidied"]


def test_cancellation_can_be_caught() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    assert cancelled(stubborn) == "went on"
