"""Leases: who holds one, until when. Pure: every call takes the time (monotonic seconds).

Which keys hang on a lease is known to ``Core``; what a lease leaves behind when it ends is the caller's business.

Source: https://etcd.io/docs/v3.6/learning/api/#lease-api
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from tiphys.store.backend import InvalidRequest, LeaseExists, LeaseNotFound

MIN_TTL = 2
"""What etcd grants at least, in seconds: one and a half election timeouts of its default settings, rounded up."""
MAX_TTL = 9_000_000_000
TTL_TOO_LARGE = "etcdserver: too large lease TTL"


@dataclass(slots=True)
class Lease:
    id: int
    ttl: int
    expires: float


class Lessor:
    """The granted leases. ``next_expiry`` says when to call ``expired`` again."""

    def __init__(self) -> None:
        self._leases: dict[int, Lease] = {}
        self._due: list[tuple[float, int]] = []

    def __contains__(self, id: int) -> bool:
        return id in self._leases

    def ids(self) -> list[int]:
        return sorted(self._leases)

    def items(self) -> list[tuple[int, int]]:
        """Every lease and its granted TTL."""
        return [(lease.id, lease.ttl) for lease in self._leases.values()]

    def ttl(self, id: int) -> int:
        """The granted TTL."""
        lease = self._leases.get(id)
        if lease is None:
            raise LeaseNotFound
        return lease.ttl

    def check(self, id: int, ttl: int) -> int:
        """The TTL that a grant of ``id`` will get. Raises if it cannot be granted."""
        if id in self._leases:
            raise LeaseExists
        if ttl > MAX_TTL:
            raise InvalidRequest(TTL_TOO_LARGE)
        return max(ttl, MIN_TTL)

    def grant(self, id: int, ttl: int, now: float) -> None:
        lease = self._leases[id] = Lease(id, ttl, now + ttl)
        heapq.heappush(self._due, (lease.expires, id))

    def renew(self, id: int, now: float) -> int:
        """Start the lease's time again; returns its TTL. A lease that has run out cannot be saved."""
        lease = self._leases.get(id)
        if lease is None or lease.expires <= now:
            raise LeaseNotFound
        lease.expires = now + lease.ttl
        return lease.ttl

    def end(self, id: int) -> None:
        if self._leases.pop(id, None) is None:
            raise LeaseNotFound

    def remaining(self, id: int, now: float) -> tuple[int, int] | None:
        """Seconds left and seconds granted; None if there is no such lease, or it has run out."""
        lease = self._leases.get(id)
        if lease is None or lease.expires <= now:
            return None
        return int(lease.expires - now), lease.ttl

    def next_expiry(self) -> float | None:
        """When the next lease runs out, if none is renewed before."""
        due = self._due
        while due:
            at, id = due[0]
            lease = self._leases.get(id)
            if lease is not None and lease.expires <= at:
                return at
            heapq.heappop(due)
            if lease is not None:
                heapq.heappush(due, (lease.expires, id))
        return None

    def expired(self, now: float) -> list[int]:
        """The leases that have run out and have not been ended."""
        return sorted(lease.id for lease in self._leases.values() if lease.expires <= now)
