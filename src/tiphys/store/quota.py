"""The quota: whether there is room for a write, counted before it is made, as etcd counts.

The store's size is measured when the count says that it may have reached the limit, and not at every write.

Source: https://etcd.io/docs/v3.6/op-guide/maintenance/#space-quota
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiphys.store.backend import Operation, Put, Txn

KEY_OVERHEAD = 256
LEASE_COST = 64
"""Bytes that etcd counts for a key besides its name and value, and for a lease."""


def cost(operation: Operation) -> int:
    """How many bytes a write may add: of a transaction, the dearer branch."""
    if type(operation) is Put:
        return KEY_OVERHEAD + len(operation.key) + len(operation.value)
    if type(operation) is Txn:
        return max(_sum(operation.success), _sum(operation.failure))
    return 0


def _sum(operations: Iterable[Operation]) -> int:
    return sum(map(cost, operations))


class Quota:
    """``limit`` in bytes; ``measure`` gives the bytes in use of what has been committed."""

    def __init__(self, limit: int, measure: Callable[[], int]) -> None:
        self.limit = limit
        self._measure = measure
        self._measured = measure()
        self._at_measure = 0
        """What was committed when the size was measured last, by the count of ``reserved``."""
        self.reserved = 0
        """What all writes so far may have added."""
        self.committed = 0
        """The part of ``reserved`` that is committed, or has failed."""

    def reserve(self, size: int) -> bool:
        """Count a write, if there is room for it."""
        if not self._fits(size):
            self._measured, self._at_measure = self._measure(), self.committed
            if not self._fits(size):
                return False
        self.reserved += size
        return True

    def _fits(self, size: int) -> bool:
        return self._measured + self.reserved - self._at_measure + size < self.limit
