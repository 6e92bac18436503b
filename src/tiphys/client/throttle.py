"""How fast a client may ask: a bucket of tokens, as client-go has it. Pure: callers pass the time, in seconds.

Source: https://en.wikipedia.org/wiki/Token_bucket; the fields qps and burst of ClientConnectionConfiguration
"""

from __future__ import annotations

from typing import NamedTuple


class RequestRate(NamedTuple):
    """``qps`` requests a second in the long run, and ``burst`` of them at once."""

    qps: float
    burst: int


class TokenBucket:
    """Requests take a token each; one that finds none takes one of those to come, and waits for it."""

    def __init__(self, limits: RequestRate, now: float) -> None:
        self._limits = limits
        self._tokens = float(limits.burst)
        self._at = now

    def take(self, now: float) -> float:
        """How many seconds from ``now`` the request is to wait."""
        qps, burst = self._limits
        self._tokens = min(burst, self._tokens + (now - self._at) * qps) - 1
        self._at = now
        return max(0.0, -self._tokens / qps)

    def try_take(self, now: float) -> bool:
        """Take a token if there is one; nobody waits."""
        qps, burst = self._limits
        self._tokens, self._at = min(burst, self._tokens + (now - self._at) * qps), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
