"""A watchdog for the event loop: what holds it keeps everybody waiting, so it is logged with the stack, and counted.

A thread asks the loop for a sign of life 20 times a second. If none comes for a quarter of a second it logs what the
loop's thread is doing just then, and when the loop answers, for how long it was held and how much of that time its
thread had the processor. A loop that only waited for its turn, as the machine was busy, was not held. A call into C
that keeps the interpreter's lock stops the watchdog as well; it is noticed by its length, without a stack.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)

HELD_SECONDS = 0.25
ASK_SECONDS = 0.05
_FRAMES = 30
_WAITING = ("asyncio/runners.py", "asyncio/base_events.py", "selectors.py")


@dataclass(slots=True, eq=False)
class Holds:
    """How often the loop of this process has been held for longer than ``HELD_SECONDS``."""

    count: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.longest = max(self.longest, seconds)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client: this is a collector."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        name = "tiphys_event_loop_held"
        yield CounterMetricFamily(name, "How often the event loop was held for more than 250 ms.", value=self.count)
        total = "How long the event loop was held, in those times."
        yield CounterMetricFamily(f"{name}_seconds", total, value=self.seconds)
        yield GaugeMetricFamily(f"{name}_longest_seconds", "The longest of those times.", value=self.longest)


HOLDS = Holds()
"""Of this process, which has one loop; its registries show it."""


class Stack(NamedTuple):
    """What the loop's thread was doing; ``idle`` if it was in the loop itself, waiting for events or for its turn."""

    text: str = ""
    idle: bool = False


class Watchdog:
    """Watches the running loop while it is entered: ``with Watchdog():``. Times in seconds."""

    def __init__(self, holds: Holds = HOLDS, held: float = HELD_SECONDS, every: float = ASK_SECONDS) -> None:
        self._holds = holds
        self._threshold = held - every
        """A hold may be ``every`` old when it is asked about."""
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._processor = _processor_time(self._watched)
        self._answered = threading.Event()
        self._answered_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._answered.set()
        self._thread.join()

    # In the loop

    def _answer(self) -> None:
        self._answered_at = time.monotonic()
        self._answered.set()

    # In the thread

    def _watch(self) -> None:
        began, used = time.monotonic(), self._processor()
        while not self._ended.wait(self._every):
            late = time.monotonic() - began - self._every
            if late > self._threshold:  # this thread could not run either
                self._held(late, self._processor() - used, Stack())
            if not self._ask():
                return
            began, used = time.monotonic(), self._processor()

    def _ask(self) -> bool:
        """Wait for a sign of life, and report it if it was long in coming; whether to continue."""
        self._answered.clear()
        if self._ended.is_set():  # perhaps before it was cleared, so nothing would set it again
            return False
        asked, used = time.monotonic(), self._processor()
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            return False
        stack = Stack()
        if not self._answered.wait(self._threshold):
            stack = self._stack()
            if not stack.idle:
                log.warning("the event loop is held; it is at\n%s", stack.text)
            self._answered.wait()
        if self._ended.is_set():
            return False
        if (seconds := self._answered_at - asked) > self._threshold:
            self._held(seconds, self._processor() - used, stack)
        return True

    def _held(self, seconds: float, used: float, stack: Stack) -> None:
        if stack.idle and used < seconds / 2:
            log.debug("the event loop was kept from running for %.0f ms: the machine is busy", 1e3 * seconds)
            return
        self._holds.add(seconds)
        where = "" if stack.text else "; it was in one call into C, nobody knows from where"
        log.warning("the event loop was held for %.0f ms, %.0f ms of it computing%s", 1e3 * seconds, 1e3 * used, where)

    def _stack(self) -> Stack:
        frame = sys._current_frames().get(self._watched)
        if frame is None:
            return Stack()
        text = "".join(traceback.format_stack(frame, _FRAMES))
        return Stack(text, idle=frame.f_code.co_filename.endswith(_WAITING))


def _processor_time(thread: int) -> Callable[[], float]:
    """How long a thread has had the processor, if the system reports it."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)
