"""``WorkQueue``: the keys that wait to be reconciled.

A key is in the queue once however often it is added; a key that is being worked on is not given out again until
``done``, and is then given out once more if it was added meanwhile. Retries wait by two limits at once: per key an
exponential back-off from 5 ms to 1000 s, and over all keys a bucket of 100 that refills by 10 a second. The semantics
are those of client-go's workqueue (https://pkg.go.dev/k8s.io/client-go/util/workqueue).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

from tiphys.runtime.clock import Clock

K = TypeVar("K")


class QueueShutDown(Exception):
    """The queue is shut down and empty."""


class QueueObserver(Protocol):
    """Observes what happens to keys; for metrics."""

    def added(self, depth: int) -> None: ...

    def taken(self, waited: float, depth: int) -> None: ...

    def finished(self, worked: float) -> None: ...

    def retried(self) -> None: ...


class RateLimiter(Generic[K]):
    """How long a key must wait before its next try: the longer of its own back-off and the bucket's delay."""

    def __init__(
        self,
        clock: Clock,
        *,
        base: float = 0.005,
        maximum: float = 1000.0,
        rate: float | None = 10.0,
        burst: float = 100.0,
    ) -> None:
        self._clock = clock
        self._base, self._maximum = base, maximum
        self._rate, self._burst = rate, burst
        self._tokens, self._updated = burst, clock.monotonic()
        self._failures: dict[K, int] = {}

    def when(self, key: K) -> float:
        """Count one more failure and return the wait in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        own = self._maximum if failures > 60 else min(self._base * 2**failures, self._maximum)
        return max(own, self._reserve())

    def _reserve(self) -> float:
        if self._rate is None:
            return 0.0
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate) - 1
        self._updated = now
        return max(0.0, -self._tokens / self._rate)

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)


class WorkQueue(Generic[K]):
    """Keys in order of arrival, each at most once. For one event loop; nothing here blocks but ``get``."""

    def __init__(
        self, clock: Clock, limiter: RateLimiter[K] | None = None, observer: QueueObserver | None = None
    ) -> None:
        self._clock = clock
        self._limiter = limiter or RateLimiter(clock)
        self._observer = observer
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}  # to be worked on, with the time of the first add
        self._processing: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        """Keys that are ready to be taken."""
        return len(self._ready)

    def add(self, key: K) -> None:
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._clock.monotonic()
        if self._observer:
            self._observer.added(len(self._ready) + 1)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Add once ``seconds`` have passed; of several such calls for one key the earliest counts."""
        if self._closed:
            return
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        waiting = self._timers.get(key)
        if waiting is not None:
            if waiting.when() <= loop.time() + seconds:
                return
            waiting.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def add_rate_limited(self, key: K) -> None:
        """Add after the limiter's wait: for a key that failed."""
        if self._observer:
            self._observer.retried()
        self.add_after(key, self._limiter.when(key))

    def forget(self, key: K) -> None:
        """The key succeeded, or is given up: its back-off starts over."""
        self._limiter.forget(key)

    def failures(self, key: K) -> int:
        """How often the key was added rate-limited since it was forgotten."""
        return self._limiter.failures(key)

    async def get(self) -> K:
        """The next key; it is the caller's until ``done``. Raises ``QueueShutDown``."""
        while not self._ready:
            if self._closed:
                raise QueueShutDown
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the wake-up was for us; pass it on
                raise
        key = self._ready.popleft()
        now = self._clock.monotonic()
        self._processing[key] = now
        added = self._dirty.pop(key)
        if self._observer:
            self._observer.taken(now - added, len(self._ready))
        return key

    def done(self, key: K) -> None:
        """The caller has finished with ``key``."""
        started = self._processing.pop(key, None)
        if started is not None and self._observer:
            self._observer.finished(self._clock.monotonic() - started)
        if key in self._dirty:
            self._push(key)

    def take_ready(self) -> list[K]:
        """All keys that are ready now, already done: for loops that poll."""
        keys = list(self._ready)
        self._ready.clear()
        for key in keys:
            del self._dirty[key]
        return keys

    def shut_down(self) -> None:
        """Take no more keys; what is ready is still given out."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._waiters:
            self._wake()

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    def _push(self, key: K) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
