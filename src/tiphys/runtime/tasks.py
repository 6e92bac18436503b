"""Owned background tasks: every task has an owner that sees it fail and ends it.

``Runner`` is the owner of a component's long-running loops. A loop that raises is logged and started again with
back-off, as a component must outlive one bad object; cancellation always gets through. ``Runner.troubles`` names the
loops that are not well, for health checks. What many members share calls each of them through ``contain``, so that an
exception of one ends there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)

Loop = Callable[[], Awaitable[None]]

MENDS_ITSELF_SECONDS = 60.0
"""A loop that has been failing for so long does not mend itself: liveness says so."""
_STEADY_SECONDS = 1.0
"""A loop that has run for so long since its last failure is well again."""
_RESET_SECONDS = 60.0
"""A loop that ran for so long before it failed is started again after the shortest delay."""


def contain(what: str, action: Callable[..., object], *args: object, **keywords: object) -> bool:
    """Call one member of something shared; whether it returned. What it raises is logged and does not spread."""
    try:
        action(*args, **keywords)
    except Exception:
        log.exception("%s failed; the others are served", what)
        return False
    return True


async def run_all(*loops: Loop) -> None:
    """Run loops that belong together: if one ends by an exception the others are cancelled, and it is raised."""
    tasks = [asyncio.ensure_future(loop()) for loop in loops]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _Supervised:
    """How a supervised loop is. ``error`` is its last failure, until it has run steadily since."""

    name: str
    started: float = 0.0
    running: bool = False
    error: str = ""
    failing_since: float = 0.0

    def start(self, now: float) -> None:
        self.started, self.running = now, True

    def fail(self, now: float, error: str) -> None:
        if not self.unwell(now):
            self.failing_since = now
        self.running, self.error = False, error

    def unwell(self, now: float) -> bool:
        return bool(self.error) and not (self.running and now - self.started >= _STEADY_SECONDS)


class Runner:
    """Owns tasks: ``spawn`` for one that ends by itself, ``supervise`` for one that must always run.

    Use as ``async with Runner(clock) as runner``; leaving the block cancels and awaits every task.
    """

    def __init__(self, clock: Clock, name: str = "") -> None:
        self._clock = clock
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._supervised: dict[asyncio.Task[Any], _Supervised] = {}

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
        """Run ``loop`` for ever: if it raises or returns, start it again after 0.1 s, 0.2 s … 30 s."""
        state = _Supervised(name)
        task = self.spawn(self._forever(loop, state), name)
        self._supervised[task] = state
        return task

    def troubles(self, since: float = 0.0) -> dict[str, str]:
        """The supervised loops that are not well, by name, with their last error; those that have been failing for at
        least ``since`` seconds. A loop that was started again counts as well once it has run for a second."""
        now = self._clock.monotonic()
        return {
            state.name: state.error
            for state in self._supervised.values()
            if state.unwell(now) and now - state.failing_since >= since
        }

    async def _forever(self, loop: Loop, state: _Supervised) -> None:
        delays = backoff(0.1, 2, 30)
        while True:
            state.start(self._clock.monotonic())
            try:
                await loop()
                error = ""
            except Exception as failure:
                log.exception("%s%s failed; it will be started again", self._name, state.name)
                error = f"{type(failure).__name__}: {failure}"
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # Not this task was cancelled: something that it waited for was, and that must not end the loop.
                log.exception("%s%s was cancelled from within; it will be started again", self._name, state.name)
                error = "cancelled from within"
            now = self._clock.monotonic()
            if now - state.started > _RESET_SECONDS:
                delays = backoff(0.1, 2, 30)
            state.fail(now, error)
            await self._clock.sleep(next(delays))

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._supervised.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
