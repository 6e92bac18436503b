"""Coroutines that begin at once: what they see, and how they are cancelled, is as in a task."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable

import pytest

from tiphys.wire import eager

variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


def in_callback(use: Callable[[asyncio.AbstractEventLoop], Awaitable[None] | None]) -> None:
    """Run ``use`` where a protocol is called: in the loop, outside of tasks; and await what it gives."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Awaitable[None] | None] = loop.create_future()

        def call() -> None:
            try:
                done.set_result(use(loop))
            except Exception as error:  # noqa: BLE001 - handed over
                done.set_exception(error)

        loop.call_soon(call)
        async with asyncio.timeout(60):
            if (rest := await done) is not None:
                await rest

    asyncio.run(main())


def test_what_does_not_wait_ends_at_once() -> None:
    seen: list[int] = []

    async def work() -> None:
        variable.set(1)
        seen.append(1)

    def use(loop: asyncio.AbstractEventLoop) -> None:
        assert eager.start(loop, work()) is None
        assert seen == [1]
        assert variable.get() == 0

    in_callback(use)


def test_what_waits_becomes_a_task_and_keeps_its_context() -> None:
    seen: list[object] = []

    async def work() -> None:
        variable.set(7)
        first = asyncio.current_task()
        assert first is not None
        await asyncio.sleep(0)
        seen.append(variable.get())
        await asyncio.sleep(0.001)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        seen.append("end")

    def use(loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        task = eager.start(loop, work())
        assert task is not None
        return task

    in_callback(use)
    assert seen == [7, "end"]


@pytest.mark.parametrize("at_once", [True, False])
def test_timeouts_that_begin_in_the_first_step(at_once: bool) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0 if at_once else 0.01):
                await asyncio.sleep(3600)
        except TimeoutError:
            seen.append("timeout")
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        seen.append("end")

    in_callback(lambda loop: eager.start(loop, work()))
    assert seen == ["timeout", "end"]


@pytest.mark.parametrize("turns", [1, 3])
def test_cancelling_reaches_what_is_waited_for(turns: int) -> None:
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            seen.append("inner")
            raise

    async def work() -> None:
        child = asyncio.ensure_future(inner())
        await asyncio.sleep(0)
        try:
            await child
        finally:
            seen.append("outer")

    def use(loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        task = eager.start(loop, work())
        assert task is not None

        async def cancel() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        return cancel()

    in_callback(use)
    assert seen == ["inner", "outer"]


def test_cancelling_before_the_task_s_first_turn() -> None:
    seen: list[str] = []

    async def work(waits_for: asyncio.Future[None]) -> None:
        try:
            await waits_for
        finally:
            seen.append("cleaned up")

    def use(loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        waits_for = loop.create_future()
        task = eager.start(loop, work(waits_for))
        assert task is not None
        task.cancel()

        async def check() -> None:
            with pytest.raises(asyncio.CancelledError):
                await task
            assert waits_for.cancelled()

        return check()

    in_callback(use)
    assert seen == ["cleaned up"]


def test_an_exception_of_the_first_step_is_not_lost() -> None:
    async def work() -> None:
        raise ValueError("first")

    def use(loop: asyncio.AbstractEventLoop) -> Awaitable[None] | None:
        return eager.start(loop, work())

    with pytest.raises(ValueError, match="first"):
        in_callback(use)
