"""Reads, writes, transactions and compaction over the index and the rows.

A write takes effect in the core at once and gives back its ``RowChange``s; if they cannot be made durable the caller
undoes them, newest first. So that nobody sees a change that is not durable yet, every read takes the newest
revision that it may see. Source: https://etcd.io/docs/v3.6/learning/data_model/
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from tiphys.store.backend import (
    Compacted,
    Delete,
    DeleteResult,
    Event,
    EventType,
    FutureRevision,
    InvalidRequest,
    KeyValue,
    LeaseNotFound,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    Txn,
    TxnResult,
)
from tiphys.store.mvcc import checks, reads
from tiphys.store.mvcc.index import MAX_CHANGES, REVISION_BITS, Index, KeyEntry, row_id
from tiphys.store.mvcc.lessor import Lessor
from tiphys.store.mvcc.rows import Rows


class RowChange:
    """One change of one key: its row, what the row holds, and what the index said before."""

    __slots__ = ("before", "kv", "row")

    def __init__(self, row: int, kv: KeyValue, before: tuple[int, int, int, int]) -> None:
        self.row = row
        self.kv = kv
        self.before = before
        """Row, create revision, version and lease of the key before; the row is 0 for a key that is new."""

    @property
    def previous_row(self) -> int:
        """The row with the key's value before this change; 0 if there was none."""
        row = self.before[0]
        return 0 if row & 1 else row

    def event(self, previous: KeyValue | None = None) -> Event:
        return Event(EventType.DELETE if self.row & 1 else EventType.PUT, self.kv, previous)


class Core:
    """The store's state. ``revision`` is the newest one, ``compacted`` the oldest that can be read."""

    def __init__(self, rows: Rows, lessor: Lessor) -> None:
        self.revision = 1
        self.compacted = 0
        self.index = Index()
        self.attached: dict[int, set[bytes]] = {}
        """The keys of each lease that has some."""
        self._rows = rows
        self._lessor = lessor
        self._superseded: set[bytes] = set()
        """The keys that have something to compact: older rows, or a deletion."""

    # Start: what a durable store finds on disk.

    def load(self, rows: Iterable[tuple[int, bytes, int, int, int]], revision: int, compacted: int) -> None:
        """Build the index from (row, key, create revision, version, lease) in ascending order of rows."""
        entries: dict[bytes, KeyEntry] = {}
        for row, key, create, version, lease in rows:
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = KeyEntry(key)
            elif entry.older is None:
                entry.older = array("q", (entry.row,))
            else:
                entry.older.append(entry.row)
            entry.row, entry.create, entry.version, entry.lease = row, create, version, lease
            revision = max(revision, row >> REVISION_BITS)
        self.index.load(entries.values())
        self.revision = max(revision, compacted)
        self.compacted = compacted
        for entry in entries.values():
            if entry.older is not None or entry.row & 1:
                self._superseded.add(entry.key)
            if entry.lease:
                self.attached.setdefault(entry.lease, set()).add(entry.key)

    # Reading

    def range(self, request: Range, latest: int) -> RangeResult:
        """Answer a read; ``latest`` is the newest revision that it may see."""
        checks.check_key(request)
        return reads.range(self.index, self._rows, request, self._readable(request.revision, latest), latest)

    def _readable(self, revision: int, latest: int) -> int:
        if revision > latest:
            raise FutureRevision
        if revision <= 0:
            return latest
        if revision < self.compacted:
            raise Compacted(self.compacted)
        return revision

    def history(self, key: bytes, end: bytes | None, first: int, last: int) -> list[tuple[int, int]]:
        """The changes of ``[key, end)`` in revisions ``first`` to ``last``: (row, previous row or 0), oldest first."""
        if first < self.compacted:
            raise Compacted(self.compacted)
        return reads.history(self.index, key, end, first, last)

    def read(self, rows: Sequence[int]) -> list[KeyValue]:
        return self._rows.read(rows)

    # Writing: each returns its answer and the changes, which are none if nothing was changed.

    def put(self, request: Put) -> tuple[PutResult, list[RowChange]]:
        checks.check_put(request)
        self._check_put(request)
        changes: list[RowChange] = []
        result = self._put(request, changes)
        self.revision += 1
        return result, changes

    def delete(self, request: Delete) -> tuple[DeleteResult, list[RowChange]]:
        checks.check_key(request)
        changes: list[RowChange] = []
        result = self._delete(request, changes)
        if changes:
            self.revision += 1
        return result, changes

    def txn(self, txn: Txn) -> tuple[TxnResult, list[RowChange]]:
        checks.check_txn(txn)
        path = list(self._decide(txn))
        self._check_path(txn, iter(path))
        changes: list[RowChange] = []
        try:
            result = self._apply(txn, iter(path), changes)
        except BaseException:
            self._restore(changes)
            raise
        if changes:
            self.revision += 1
        return result, changes

    def revoke(self, lease: int) -> list[RowChange]:
        """Delete the keys of a lease, in one revision."""
        changes: list[RowChange] = []
        for key in sorted(self.attached.get(lease, ())):
            self._remove(self.index.by_key[key], changes)
        if changes:
            self.revision += 1
        return changes

    def undo(self, changes: Sequence[RowChange]) -> None:
        """Take the changes of the newest revision back."""
        if changes:
            self._restore(changes)
            self.revision -= 1

    def _decide(self, txn: Txn) -> Iterator[bool]:
        """Which branch each transaction takes, outermost first; all by the state before the transaction."""
        holds = True
        for compare in txn.compare:
            if not reads.holds(self.index, self._rows, compare):
                holds = False
                break
        yield holds
        for op in txn.success if holds else txn.failure:
            if type(op) is Txn:
                yield from self._decide(op)

    def _check_path(self, txn: Txn, path: Iterator[bool]) -> None:
        """Raise for what would fail in the middle: nothing of a transaction is done if one part cannot be."""
        for op in txn.success if next(path) else txn.failure:
            if type(op) is Put:
                self._check_put(op)
            elif type(op) is Range:
                self._readable(op.revision, self.revision)
            elif type(op) is Txn:
                self._check_path(op, path)

    def _check_put(self, put: Put) -> None:
        if put.ignore_value or put.ignore_lease:
            entry = self.index.by_key.get(put.key)
            if entry is None or entry.row & 1:
                raise InvalidRequest(checks.KEY_NOT_FOUND)
        if put.lease and put.lease not in self._lessor:
            raise LeaseNotFound

    def _apply(self, txn: Txn, path: Iterator[bool], changes: list[RowChange]) -> TxnResult:
        succeeded = next(path)
        responses = [self._apply_one(op, path, changes) for op in (txn.success if succeeded else txn.failure)]
        return TxnResult(succeeded, responses, self.revision + bool(changes))

    def _apply_one(self, op: Operation, path: Iterator[bool], changes: list[RowChange]) -> OperationResult:
        if type(op) is Put:
            return self._put(op, changes)
        if type(op) is Range:
            latest = self.revision + bool(changes)
            return reads.range(self.index, self._rows, op, self._readable(op.revision, latest), latest)
        if type(op) is Delete:
            return self._delete(op, changes)
        assert type(op) is Txn
        return self._apply(op, path, changes)

    def _put(self, put: Put, changes: list[RowChange]) -> PutResult:
        revision = self.revision + 1
        entry = self.index.by_key.get(put.key)
        if entry is None:
            entry = self.index.add(put.key)
        row, create, version, lease = before = entry.row, entry.create, entry.version, entry.lease
        exists = row and not row & 1
        previous = None
        value, new_lease = put.value, put.lease
        if exists and (put.prev_kv or put.ignore_value):
            previous = self._rows.read((row,))[0]
            if put.ignore_value:
                value = previous.value
        if put.ignore_lease:
            new_lease = lease
        if not exists:
            create = revision
        kv = KeyValue(put.key, value, create, revision, version + 1, new_lease)
        self._record(entry, before, row_id(revision, len(changes), deleted=False), kv, changes)
        return PutResult(previous if put.prev_kv else None, revision)

    def _delete(self, request: Delete, changes: list[RowChange]) -> DeleteResult:
        entries = [entry for entry in self.index.select(request.key, request.end) if not entry.row & 1]
        if len(entries) + len(changes) > MAX_CHANGES:
            raise InvalidRequest(checks.TOO_MANY_OPERATIONS)
        previous = self._rows.read([entry.row for entry in entries]) if request.prev_kv else []
        for entry in entries:
            self._remove(entry, changes)
        return DeleteResult(len(entries), previous, self.revision + bool(changes))

    def _remove(self, entry: KeyEntry, changes: list[RowChange]) -> None:
        revision = self.revision + 1
        before = entry.row, entry.create, entry.version, entry.lease
        kv = KeyValue(entry.key, b"", 0, revision, 0, 0)
        self._record(entry, before, row_id(revision, len(changes), deleted=True), kv, changes)

    def _record(
        self, entry: KeyEntry, before: tuple[int, int, int, int], row: int, kv: KeyValue, changes: list[RowChange]
    ) -> None:
        self._rows.add(row, kv)
        if before[0]:
            if entry.older is None:
                entry.older = array("q", (before[0],))
            else:
                entry.older.append(before[0])
            self._superseded.add(entry.key)
        entry.row, entry.create, entry.version, entry.lease = row, kv.create_revision, kv.version, kv.lease
        self.index.changed(entry, before[0])
        if before[3] != kv.lease:
            self._attach(entry.key, before[3], kv.lease)
        changes.append(RowChange(row, kv, before))

    def _attach(self, key: bytes, old: int, new: int) -> None:
        if old:
            keys = self.attached[old]
            keys.discard(key)
            if not keys:
                del self.attached[old]
        if new:
            self.attached.setdefault(new, set()).add(key)

    def _restore(self, changes: Sequence[RowChange]) -> None:
        for change in reversed(changes):
            entry = self.index.by_key[change.kv.key]
            row, create, version, lease = change.before
            if change.kv.lease != lease:
                self._attach(entry.key, change.kv.lease, lease)
            entry.row, entry.create, entry.version, entry.lease = row, create, version, lease
            self.index.changed_back(entry, change.row)
            if not row:
                self.index.remove(entry.key)
            elif entry.older is not None:
                entry.older.pop()
                if not entry.older:
                    entry.older = None
        self._rows.drop([change.row for change in changes])

    # Compaction: first the promise, then piece by piece the work.

    def compact(self, revision: int, latest: int) -> None:
        """Reads before ``revision`` are refused from now on."""
        if revision <= self.compacted:
            raise Compacted(self.compacted)
        if revision > latest:
            raise FutureRevision
        self.compacted = revision

    def sweep(self, keys: int) -> Iterator[list[int]]:
        """Forget what no readable revision needs; yields the rows to drop after every ``keys`` keys looked at.

        A key keeps its newest row at the compacted revision, and those after it. A deletion before the compacted
        revision goes too, one at it stays, as a watch may still start there. The store may change between two steps.
        """
        horizon = self.compacted
        names = list(self._superseded)
        for start in range(0, len(names), keys):
            dead: list[int] = []
            for name in names[start : start + keys]:
                entry = self.index.by_key.get(name)
                if entry is not None:
                    self._sweep_entry(entry, horizon, dead)
            yield dead

    def _sweep_entry(self, entry: KeyEntry, horizon: int, dead: list[int]) -> None:
        older = entry.older
        if older is not None:
            bound = (horizon + 1) << REVISION_BITS
            gone = len(older) if entry.row < bound else bisect_left(older, bound) - 1
            if 0 < gone + 1 <= len(older) and older[gone] & 1 and older[gone] >> REVISION_BITS < horizon:
                gone += 1
            if gone > 0:
                dead += older[:gone]
                del older[:gone]
            if not older:
                entry.older = None
        if entry.row & 1 and entry.row >> REVISION_BITS < horizon:
            dead.append(entry.row)
            self.index.remove(entry.key)
            self._superseded.discard(entry.key)
        elif entry.older is None and not entry.row & 1:
            self._superseded.discard(entry.key)
