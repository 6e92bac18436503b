"""Run a coroutine's first step at once, and make a task of it only if it has to wait.

Most requests are answered without waiting for anything; a task for each costs 2 µs and a turn of the loop. Python 3.12
has ``eager_start`` for this. For 3.11 the same is built here: while the first step runs, a stand-in is the current
task, so that ``asyncio.timeout`` and ``TaskGroup`` work; if the coroutine waits, a real task takes its place and
the stand-in forwards to it.

Source: https://docs.python.org/3/library/asyncio-task.html#asyncio.eager_task_factory
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from types import TracebackType
from typing import Any

__all__ = ["start"]

Work = Coroutine[Any, Any, None]

if sys.version_info >= (3, 12):

    def start(loop: AbstractEventLoop, work: Work) -> Task[None] | None:
        """Begin ``work`` now; the task that carries it on, or None if it has ended already."""
        task = Task(work, loop=loop, context=copy_context(), eager_start=True)
        return None if task.done() and not task.cancelled() and task.exception() is None else task

else:
    from asyncio.tasks import _enter_task, _leave_task

    def start(loop: AbstractEventLoop, work: Work) -> Task[None] | None:
        """Begin ``work`` now; the task that carries it on, or None if it has ended already."""
        context = copy_context()
        stand_in = _StandIn()
        _enter_task(loop, stand_in)  # type: ignore[arg-type]
        try:
            waits_for = context.run(work.send, None)
        except StopIteration:
            return None
        finally:
            _leave_task(loop, stand_in)  # type: ignore[arg-type]
        task: Task[None] = Task(_Resumed(work, waits_for), loop=loop, context=context)
        stand_in.become(task)
        return task


class _StandIn:
    """What ``asyncio.current_task`` gives during the first step: a task's interface for cancellation."""

    __slots__ = ("_requests", "_task")

    def __init__(self) -> None:
        self._task: Task[None] | None = None
        self._requests = 0

    def become(self, task: Task[None]) -> None:
        self._task = task
        for _ in range(self._requests):
            task.cancel()

    def cancel(self, msg: object = None) -> bool:
        if self._task is not None:
            return self._task.cancel(msg)
        self._requests += 1
        return True

    def cancelling(self) -> int:
        return self._task.cancelling() if self._task is not None else self._requests

    def uncancel(self) -> int:
        if self._task is not None:
            return self._task.uncancel()
        self._requests = max(0, self._requests - 1)
        return self._requests

    def done(self) -> bool:
        return self._task is not None and self._task.done()

    def get_name(self) -> str:
        return self._task.get_name() if self._task is not None else "request"


_NOTHING = object()


class _Resumed(Coroutine[Any, Any, None]):
    """A coroutine whose first step is done: gives what that step waits for first, then the rest."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Work, waits_for: object) -> None:
        self._work = work
        self._waits_for = waits_for

    def send(self, value: Any) -> Any:
        if self._waits_for is not _NOTHING:
            first, self._waits_for = self._waits_for, _NOTHING
            return first
        return self._work.send(value)

    def throw(  # type: ignore[override]
        self, kind: Any, value: BaseException | None = None, trace: TracebackType | None = None
    ) -> Any:
        first, self._waits_for = self._waits_for, _NOTHING
        # Cancelled before the task's first turn: pass it on to what is waited for, as a task would.
        if isinstance(first, asyncio.Future) and isinstance(kind, asyncio.CancelledError) and first.cancel():
            return first
        return self._work.throw(kind if value is None else value)

    def close(self) -> None:
        self._work.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("only a task may run this")
