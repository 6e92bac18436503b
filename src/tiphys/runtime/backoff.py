"""Back-off by key: each failure doubles the delay until the next try. A leaf: imports nothing of ours.

For containers that crash, images that cannot be pulled, and daemon pods that fail. Source:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    delay: float
    updated: float


class KeyedBackoff:
    """Delays in seconds that double from ``initial`` to ``maximum``, and start over after twice the maximum without
    a failure. Times are seconds of one clock, which the caller reads."""

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = initial
        self._maximum = maximum
        self._entries: dict[str, _Entry] = {}
        """Ordered by ``updated``."""

    def __len__(self) -> int:
        return len(self._entries)

    def remaining(self, key: str, since: float, now: float) -> float:
        """Seconds still to wait after an event at ``since``; 0 if there is nothing to wait for."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, since):
            return 0.0
        return max(0.0, entry.delay - (now - since))

    def waits(self, key: str, now: float) -> bool:
        """Whether the delay that began with the last failure still runs."""
        entry = self._entries.get(key)
        return entry is not None and now - entry.updated < entry.delay

    def delay(self, key: str) -> float:
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def next(self, key: str, event: float, now: float) -> None:
        """Note another failure that happened at ``event``; entries that have expired are dropped."""
        entry = self._entries.pop(key, None)
        fresh = entry is None or self._expired(entry, event)
        delay = self._initial if entry is None or fresh else min(entry.delay * 2, self._maximum)
        self._entries[key] = _Entry(delay, now)
        self._drop_expired(now)

    def forget(self, prefix: str) -> None:
        """Drop every key that starts with ``prefix`` (a pod's uid)."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]

    def _drop_expired(self, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            if not self._expired(self._entries[oldest], now):
                return
            del self._entries[oldest]

    def _expired(self, entry: _Entry, event: float) -> bool:
        return event - entry.updated > 2 * self._maximum
