"""How many seats a level has wanted lately, from which its share of what others lend follows.

Source: KEP-1040, "Dispatching".
"""

from __future__ import annotations

import math

ADJUSTMENT_SECONDS = 10.0
_SMOOTHING = 0.977


class Demand:
    """Seats wanted, integrated over a period; smoothed over periods so that it falls slowly and rises at once."""

    def __init__(self, now: float) -> None:
        self.high = 0
        self.average = 0.0
        self.deviation = 0.0
        self.smoothed = 0.0
        self._seats = 0
        self._since = self._last = now
        self._peak = 0
        self._sum = self._squares = 0.0

    def note(self, seats: int, now: float) -> None:
        """From ``now`` on so many seats are wanted."""
        self._advance(now)
        self._seats = seats
        self._peak = max(self._peak, seats)

    def close_period(self, now: float) -> None:
        """Take stock of the period since the last call."""
        self._advance(now)
        length = now - self._since
        if length > 0:
            self.average = self._sum / length
            self.deviation = math.sqrt(max(self._squares / length - self.average**2, 0.0))
        self.high = self._peak
        envelope = self.average + self.deviation
        self.smoothed = max(envelope, _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * envelope)
        self._since, self._peak = now, self._seats
        self._sum = self._squares = 0.0

    def _advance(self, now: float) -> None:
        passed = now - self._last
        self._sum += self._seats * passed
        self._squares += self._seats**2 * passed
        self._last = now
