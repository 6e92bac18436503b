"""The index: every key in order, and for each the row numbers of its kept revisions.

A row number is one integer: ``revision << 24 | place in the revision << 1 | whether it is a deletion``. So rows sort by
the order of their changes, a revision can have eight million of them, and whether a key existed at some revision is
known from the index alone. The index costs some 200 bytes for a key and 8 for each older revision that is kept.

Source: https://etcd.io/docs/v3.6/learning/data_model/
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import takewhile

from sortedcontainers import SortedList

REVISION_BITS = 24
MAX_CHANGES = 1 << (REVISION_BITS - 1)
RECENT = 2000
"""How many changes back a state can be and still be counted from that of now."""


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
    """All entries, by key and in the order of keys. Deleted keys stay until their deletion is compacted.

    How many keys a range has is known without looking at each: ``gone`` are those whose newest row is a deletion, and
    ``recent`` the last changes, so that a state a moment ago is counted from that of now.
    """

    __slots__ = ("_recent_since", "by_key", "gone", "order", "recent")

    def __init__(self) -> None:
        self.by_key: dict[bytes, KeyEntry] = {}
        self.order: SortedList[bytes] = SortedList()
        self.gone: SortedList[bytes] = SortedList()
        self.recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)
        """Row and key, oldest first."""
        self._recent_since = 0
        """Every row after this one is in ``recent``."""

    def load(self, entries: Iterable[KeyEntry]) -> None:
        """Fill an empty index."""
        self.by_key = {entry.key: entry for entry in entries}
        self.order = SortedList(self.by_key)
        self.gone = SortedList(key for key, entry in self.by_key.items() if entry.row & 1)
        self._recent_since = max((entry.row for entry in self.by_key.values()), default=0)

    def changed(self, entry: KeyEntry, before: int) -> None:
        """The entry has a new row; ``before`` is the one that it had."""
        if len(self.recent) == RECENT:
            self._recent_since = self.recent[0][0]
        self.recent.append((entry.row, entry.key))
        self._sort_out(entry, before)

    def changed_back(self, entry: KeyEntry, undone: int) -> None:
        """The newest change of all is undone: the entry has the row that it had before the row ``undone``."""
        if self.recent:
            self.recent.pop()
        self._sort_out(entry, undone)

    def _sort_out(self, entry: KeyEntry, before: int) -> None:
        is_gone, was_gone = entry.row & 1, before & 1
        if is_gone and not was_gone:
            self.gone.add(entry.key)
        elif was_gone and not is_gone:
            self.gone.remove(entry.key)

    def count(self, key: bytes, end: bytes, revision: int) -> int | None:
        """How many keys of ``[key, end)`` exist as of ``revision``; None if only looking at each can say."""
        bound = (revision + 1) << REVISION_BITS
        if bound <= self._recent_since:
            return None
        count = _within(self.order, key, end) - _within(self.gone, key, end)
        later = takewhile(lambda change: change[0] >= bound, reversed(self.recent))
        for changed in {changed for _, changed in later}:
            if changed >= key and (end == b"\0" or changed < end) and (entry := self.by_key.get(changed)) is not None:
                count += (entry.row_at(revision) != 0) - (not entry.row & 1)
        return count

    def add(self, key: bytes) -> KeyEntry:
        entry = self.by_key[key] = KeyEntry(key)
        self.order.add(key)
        return entry

    def remove(self, key: bytes) -> None:
        entry = self.by_key.pop(key)
        self.order.remove(key)
        if entry.row & 1:
            self.gone.remove(key)

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


def _within(keys: SortedList[bytes], key: bytes, end: bytes) -> int:
    """How many of the keys are in ``[key, end)``."""
    if not keys:
        return 0
    last = len(keys) if end == b"\0" else keys.bisect_left(end)
    return max(0, last - keys.bisect_left(key))
