"""Owned background tasks: every task has an owner that sees it fail and ends it.

``Runner`` is the owner of a component's long-running loops. A loop that raises is logged and started again with
back-off, as a component must outlive one bad object; cancellation always gets through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)

Loop = Callable[[], Awaitable[None]]


class Runner:
    """Owns tasks: ``spawn`` for one that ends by itself, ``supervise`` for one that must always run.

    Use as ``async with Runner(clock) as runner``; leaving the block cancels and awaits every task.
    """

    def __init__(self, clock: Clock, name: str = "") -> None:
        self._clock = clock
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Runner:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine; an exception that it ends with is logged."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._name}{name}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def supervise(self, loop: Loop, name: str) -> asyncio.Task[Any]:
        """Run ``loop`` for ever: where it raises or returns, start it again after 0.1 s, 0.2 s … 30 s."""
        return self.spawn(self._forever(loop, name), name)

    async def _forever(self, loop: Loop, name: str) -> None:
        delays = backoff(0.1, 2, 30)
        while True:
            started = self._clock.monotonic()
            try:
                await loop()
            except Exception:
                log.exception("%s%s failed; it will be started again", self._name, name)
            if self._clock.monotonic() - started > 60:
                delays = backoff(0.1, 2, 30)
            await self._clock.sleep(next(delays))

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
