"""Leases of the store for objects that expire, such as events.

A lease costs the store more than a key does, so keys written within a minute or so share one, as upstream does it;
an object lives at least its time to live, and up to a twentieth of it longer.

Source: https://etcd.io/docs/v3.6/learning/api/#lease-api
"""

from __future__ import annotations

from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend

REUSE_SECONDS = 60
_REUSE_SHARE = 20
_MAX_KEYS = 1000


class Leases:
    """Keys share a lease for ``reuse`` seconds, or a twentieth of their time to live if that is less."""

    def __init__(self, backend: Backend, clock: Clock, reuse: int = REUSE_SECONDS) -> None:
        self._reuse = reuse
        self._backend = backend
        self._clock = clock
        self._current: dict[int, tuple[int, float, int]] = {}

    async def lease(self, ttl: int) -> int:
        """The id of a lease that lasts at least ``ttl`` seconds from now."""
        id, until, keys = self._current.get(ttl, (0, 0.0, 0))
        now = self._clock.monotonic()
        if now >= until or keys >= _MAX_KEYS:
            reuse = min(self._reuse, ttl // _REUSE_SHARE)
            granted = await self._backend.lease_grant(ttl + reuse)
            id, until, keys = granted.id, now + reuse, 0
        self._current[ttl] = (id, until, keys + 1)
        return id
