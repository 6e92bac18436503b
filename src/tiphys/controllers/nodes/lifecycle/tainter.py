"""Nodes that wait to be tainted NoExecute, zone by zone, at the rate that the zone's state allows.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
"""

from __future__ import annotations

import asyncio

from tiphys.runtime.clock import Clock


class ZoneQueue:
    """Nodes in order of arrival; a bucket of one that refills at ``rate`` a second (0: nothing comes out)."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._tokens, self._updated = 1.0, now
        self._waiting: dict[str, None] = {}
        self._known: set[str] = set()

    def add(self, node: str) -> bool:
        """Queue a node, unless it was queued before and not removed since."""
        if node in self._known:
            return False
        self._known.add(node)
        self._waiting[node] = None
        return True

    def remove(self, node: str) -> bool:
        self._waiting.pop(node, None)
        known = node in self._known
        self._known.discard(node)
        return known

    def retry(self, node: str) -> None:
        """Queue a node again that was taken and could not be tainted."""
        if node in self._known:
            self._waiting[node] = None

    def set_rate(self, rate: float, now: float) -> None:
        self._refill(now)
        self.rate = rate

    def take(self, now: float) -> str | None:
        """The next node, if one waits and the rate allows it."""
        self._refill(now)
        if not self._waiting or self.rate <= 0 or self._tokens < 1 - 1e-9:
            return None
        self._tokens -= 1
        node = next(iter(self._waiting))
        del self._waiting[node]
        return node

    def delay(self, now: float) -> float | None:
        """Seconds until ``take`` may give a node; None if none waits."""
        self._refill(now)
        if not self._waiting or self.rate <= 0:
            return None
        return max(0.0, (1 - self._tokens) / self.rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(1.0, self._tokens + (now - self._updated) * self.rate)
        self._updated = now


class Tainter:
    """The queues of all zones. ``next`` waits for a node that may be tainted now."""

    def __init__(self, clock: Clock, rate: float) -> None:
        self._clock, self._rate = clock, rate
        self._zones: dict[str, ZoneQueue] = {}
        self._changed = asyncio.Event()

    def zone(self, name: str) -> ZoneQueue:
        if name not in self._zones:
            self._zones[name] = ZoneQueue(self._rate, self._clock.monotonic())
        return self._zones[name]

    def add(self, zone: str, node: str) -> None:
        if self.zone(zone).add(node):
            self._changed.set()

    def remove(self, node: str) -> None:
        for queue in self._zones.values():
            queue.remove(node)

    def retry(self, node: str) -> None:
        for queue in self._zones.values():
            queue.retry(node)

    def set_rate(self, zone: str, rate: float) -> None:
        self.zone(zone).set_rate(rate, self._clock.monotonic())
        self._changed.set()

    async def next(self) -> str:
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            for queue in self._zones.values():
                if (node := queue.take(now)) is not None:
                    return node
            delays = [delay for queue in self._zones.values() if (delay := queue.delay(now)) is not None]
            try:
                await asyncio.wait_for(self._changed.wait(), min(delays, default=None))
            except TimeoutError:
                continue
