"""How long to wait before a failed pod is replaced: from 1 second, doubled with each failure, to 15 minutes."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.runtime.clock import Clock

INITIAL = 1.0
MAXIMUM = 900.0


@dataclass(slots=True)
class _Entry:
    delay: float
    updated: float


class FailedPodBackoff:
    """Back-off by key; a key that did not fail for twice the maximum starts anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def failed(self, key: str) -> float | None:
        """None: replace now, and the next failure waits longer. Else the seconds to wait."""
        now = self._clock.monotonic()
        self._forget_old(now)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(INITIAL, now)
            return None
        if now - entry.updated < entry.delay:
            return entry.delay
        entry.delay, entry.updated = min(entry.delay * 2, MAXIMUM), now
        return None

    def _forget_old(self, now: float) -> None:
        for key in [key for key, entry in self._entries.items() if now - entry.updated > 2 * MAXIMUM]:
            del self._entries[key]
