"""The index: every key in order, and for each the row numbers of its kept revisions.

A row number is one integer: ``revision << 24 | place in the revision << 1 | whether it is a deletion``. So rows sort by
the order of their changes, a revision can have eight million of them, and whether a key existed at some revision is
known from the index alone. The index costs some 200 bytes for a key and 8 for each older revision that is kept.

Source: https://etcd.io/docs/v3.6/learning/data_model/
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from sortedcontainers import SortedList

REVISION_BITS = 24
MAX_CHANGES = 1 << (REVISION_BITS - 1)


def row_id(revision: int, place: int, *, deleted: bool) -> int:
    """The row number of the change at ``place`` (from 0) of ``revision``."""
    return revision << REVISION_BITS | place << 1 | deleted


def revision_of(row: int) -> int:
    return row >> REVISION_BITS


class KeyEntry:
    """One key: its newest row and what is known of it, and the rows before it, oldest first."""

    __slots__ = ("create", "key", "lease", "older", "row", "version")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.row = 0
        self.create = 0
        self.version = 0
        self.lease = 0
        self.older: array[int] | None = None

    def row_at(self, revision: int) -> int:
        """The row that holds the key as of ``revision``; 0 if it does not exist there."""
        bound = (revision + 1) << REVISION_BITS
        row = self.row
        if row >= bound:
            older = self.older
            at = bisect_left(older, bound) if older else 0
            if not older or not at:
                return 0
            row = older[at - 1]
        return 0 if row & 1 else row


class Index:
    """All entries, by key and in the order of keys. Deleted keys stay until their deletion is compacted."""

    __slots__ = ("by_key", "order")

    def __init__(self) -> None:
        self.by_key: dict[bytes, KeyEntry] = {}
        self.order: SortedList[bytes] = SortedList()

    def load(self, entries: Iterable[KeyEntry]) -> None:
        """Fill an empty index."""
        self.by_key = {entry.key: entry for entry in entries}
        self.order = SortedList(self.by_key)

    def add(self, key: bytes) -> KeyEntry:
        entry = self.by_key[key] = KeyEntry(key)
        self.order.add(key)
        return entry

    def remove(self, key: bytes) -> None:
        del self.by_key[key]
        self.order.remove(key)

    def select(self, key: bytes, end: bytes | None) -> Iterator[KeyEntry]:
        """The entries of ``[key, end)`` in order, deleted ones too; ``end`` as in ``backend.Range``."""
        by_key = self.by_key
        if end is None:
            entry = by_key.get(key)
            return iter(() if entry is None else (entry,))
        if end == b"\0":
            return map(by_key.__getitem__, self.order.irange(key))
        if end <= key:
            return iter(())
        return map(by_key.__getitem__, self.order.irange(key, end, (True, False)))
