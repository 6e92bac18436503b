"""Leases of the store for objects that expire, such as events.

A lease costs the store more than a key does, so keys written within a minute or so share one, as upstream does it;
an object lives at least its time to live, and a little longer.

Source: https://etcd.io/docs/v3.6/learning/api/#lease-api
"""

from __future__ import annotations

from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend

_REUSE_SECONDS = 60.0
_MAX_KEYS = 1000


class Leases:
    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self._current: dict[int, tuple[int, float, int]] = {}

    async def lease(self, ttl: int) -> int:
        """The id of a lease that lasts at least ``ttl`` seconds from now."""
        id, until, keys = self._current.get(ttl, (0, 0.0, 0))
        now = self._clock.monotonic()
        if now >= until or keys >= _MAX_KEYS:
            granted = await self._backend.lease_grant(ttl + max(int(_REUSE_SECONDS), ttl // 20))
            id, until, keys = granted.id, now + _REUSE_SECONDS, 0
        self._current[ttl] = (id, until, keys + 1)
        return id
