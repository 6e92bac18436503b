"""Time, as the components see it: injected, never read from the machine directly.

A component takes a ``Clock`` and asks it for the time or to sleep. In production that is ``SystemClock``. In tests and
simulations the whole event loop runs on virtual time (``VirtualTimeLoop``): whenever nothing is ready to run, the loop
jumps to its next timer instead of waiting for it, so an hour of cluster time takes as long as the work in it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Clock(Protocol):
    """What time it is, and how to wait."""

    def now(self) -> float:
        """Wall-clock time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait. Cancellation ends the wait at once."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never waits while a timer is pending: it moves the loop's clock instead.

    While a thread works for the loop (``threads``), time stands still: what it does takes no virtual time.
    """

    virtual_time = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (
            timeout > 0 and self.threads > 0
        ):  # only real I/O (a thread's wake-up) can make progress
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.virtual_time += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose ``time()`` is virtual: it advances to the next timer as soon as nothing else can run."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.virtual_time

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._jumping.threads += 1
        work = super().run_in_executor(executor, func, *args)
        work.add_done_callback(lambda _: self._finished())
        return work

    def _finished(self) -> None:
        self._jumping.threads -= 1


class VirtualClock:
    """The clock of a ``VirtualTimeLoop``. ``epoch`` is the wall-clock time at the loop's start, in Unix seconds."""

    def __init__(self, loop: VirtualTimeLoop, epoch: float = 1_767_225_600.0) -> None:  # 2026-01-01T00:00:00Z
        self._loop = loop
        self._epoch = epoch

    def now(self) -> float:
        return self._epoch + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def backoff(initial: float, factor: float, maximum: float) -> Iterator[float]:
    """Yield growing delays in seconds: initial, initial·factor, … up to and then always ``maximum``."""
    delay = initial
    while True:
        yield min(delay, maximum)
        delay = min(delay * factor, maximum)
