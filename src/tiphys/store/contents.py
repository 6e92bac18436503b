"""A consistent picture of everything in a store: what a snapshot holds, and what its hashes are made of.

The form of a change is etcd's: the key is its revision (``revisionkey``), the value a ``KeyValue`` message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.store.backend import KeyValue
from tiphys.store.mvcc import revision_of
from tiphys.store.mvcc.index import MAX_CHANGES

REVISION_KEY = struct.Struct(">qcq")
TOMBSTONE = b"t"


@dataclass(frozen=True, slots=True)
class Contents:
    """``rows`` gives every (row number, KeyValue), oldest first, as often as it is called."""

    revision: int
    compacted: int
    leases: Sequence[tuple[int, int]]
    """Every lease and its TTL."""
    rows: Callable[[], Iterable[tuple[int, KeyValue]]]

    def kept(self) -> Iterator[tuple[int, KeyValue]]:
        """The rows without those that are compacted and merely have not been removed yet."""
        newest = newest_rows(self.rows(), self.compacted)
        for row, kv in self.rows():
            revision = revision_of(row)
            if revision <= self.compacted and newest[kv.key] != row:
                continue
            if revision < self.compacted and row & 1:
                continue
            yield row, kv


def newest_rows(rows: Iterable[tuple[int, KeyValue]], revision: int) -> dict[bytes, int]:
    """Each key's newest row up to ``revision``."""
    newest: dict[bytes, int] = {}
    for row, kv in rows:
        if revision_of(row) > revision:
            break
        newest[kv.key] = row
    return newest


def revision_key(row: int) -> bytes:
    """A row number as the key under which etcd's file has the change."""
    key = REVISION_KEY.pack(revision_of(row), b"_", row % (2 * MAX_CHANGES) >> 1)
    return key + TOMBSTONE if row & 1 else key


def encode_kv(kv: KeyValue, *, deleted: bool) -> bytes:
    """A change as etcd writes it: of a deletion, the key alone."""
    from tiphys.store.etcdpb import pb, write_kv

    message: Any = pb.KeyValue(key=kv.key) if deleted else write_kv(kv)
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def hash_kv(contents: Contents, revision: int) -> int:
    """etcd's hash of the keys as of ``revision``: equal on every member, and on stores with the same history."""
    from google_crc32c import extend

    newest = newest_rows(contents.rows(), revision)
    keep = {row for row in newest.values() if not row & 1}
    crc = int(extend(0, b"key"))
    for row, kv in contents.rows():
        at = revision_of(row)
        if at > revision:
            break
        if at <= contents.compacted and keep and row not in keep:
            continue
        if at == contents.compacted and row & 1:
            continue
        crc = extend(extend(crc, revision_key(row)), encode_kv(kv, deleted=bool(row & 1)))
    return crc


def hash_all(contents: Contents) -> int:
    """A hash of everything that the store holds, leases too."""
    from google_crc32c import extend

    crc = int(extend(0, struct.pack(">qq", contents.revision, contents.compacted)))
    for row, kv in contents.rows():
        crc = extend(extend(crc, revision_key(row)), encode_kv(kv, deleted=bool(row & 1)))
    for lease in sorted(contents.leases):
        crc = extend(crc, struct.pack(">qq", *lease))
    return crc
