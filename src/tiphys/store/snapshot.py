"""Snapshots in etcd's form: its bbolt database, and after it the SHA-256 of all of it.

What is written here, etcd's own ``etcdctl snapshot restore`` turns into the data directory of a member; what etcd's
``snapshot save`` wrote is read here. Every key keeps its revisions and version, every lease its id and TTL.

Buckets: ``key`` holds the changes, ``lease`` the leases, ``meta`` the compacted revision; etcd expects the others to be
there, and they are empty. Source: https://etcd.io/docs/v3.6/op-guide/recovery/
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tiphys.store import bbolt
from tiphys.store.backend import KeyValue, StoreError
from tiphys.store.contents import REVISION_KEY, TOMBSTONE, Contents, encode_kv, revision_key
from tiphys.store.mvcc import row_id

_CHUNK = 1 << 20
_DIGEST = hashlib.sha256().digest_size
_ALIGNMENT = 512
"""A database is whole pages, so a file with this much more than a multiple of it has a digest at its end."""
_OTHER_BUCKETS = (b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster", b"members", b"members_removed")


class BadSnapshot(StoreError):
    """The snapshot cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Status:
    """What ``snapshot status`` reports."""

    hash: int
    revision: int
    total_keys: int
    total_size: int


# Writing


def write_database(contents: Contents, path: Path) -> None:
    """Write a store's contents as etcd's database, without the digest."""
    others: list[tuple[bytes, Iterable[bbolt.Pair]]] = [(name, ()) for name in _OTHER_BUCKETS]
    buckets = [
        *others,
        (b"key", ((revision_key(row), encode_kv(kv, deleted=bool(row & 1))) for row, kv in contents.kept())),
        (b"lease", _leases(contents)),
        (b"meta", _meta(contents)),
    ]
    with path.open("wb") as file:
        bbolt.write(file, sorted(buckets, key=lambda bucket: bucket[0]))


def _leases(contents: Contents) -> Iterator[bbolt.Pair]:
    from tiphys.store.etcdpb import pb

    for id, ttl in sorted(contents.leases):
        yield struct.pack(">q", id), pb.PersistedLease(ID=id, TTL=ttl).SerializeToString()


def _meta(contents: Contents) -> list[bbolt.Pair]:
    """``consistent_index`` counts the log entries that are in the database; here each revision was one."""
    pairs = [(b"consistent_index", struct.pack(">Q", contents.revision)), (b"term", struct.pack(">Q", 2))]
    if contents.compacted:
        compacted = revision_key(row_id(contents.compacted, 0, deleted=False))
        pairs += [(b"scheduledCompactRev", compacted), (b"finishedCompactRev", compacted)]
    return sorted(pairs)


def digest_of(file: BinaryIO, size: int) -> bytes:
    """The SHA-256 of the file's first ``size`` bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    left = size
    while left and (chunk := file.read(min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest()


# Reading


def verify(path: Path, *, skip_hash: bool = False) -> None:
    """Check the digest at the end of a snapshot. ``skip_hash``: it may be missing, as in a copied database file."""
    size = path.stat().st_size
    if size % _ALIGNMENT != _DIGEST:
        if skip_hash:
            return
        raise BadSnapshot("snapshot missing hash but --skip-hash-check=false")
    with path.open("rb") as file:
        expected = digest_of(file, size - _DIGEST)
        if file.read(_DIGEST) != expected and not skip_hash:
            raise BadSnapshot(f"{path} is damaged: its contents do not have the SHA-256 at its end")


def read(path: Path) -> Contents:
    """The contents of a snapshot."""
    from tiphys.store.etcdpb import pb

    try:
        with bbolt.Reader(path) as reader:
            meta = dict(reader.bucket(b"meta"))
            leases = [pb.PersistedLease.FromString(value) for _, value in reader.bucket(b"lease")]
            newest = 1
            for key, _ in reader.bucket(b"key"):
                newest = REVISION_KEY.unpack_from(key)[0]
    except (bbolt.BadFile, struct.error) as error:
        raise BadSnapshot(str(error)) from error
    scheduled = meta.get(b"scheduledCompactRev")
    compacted = REVISION_KEY.unpack_from(scheduled)[0] if scheduled else 0
    return Contents(max(newest, compacted), compacted, [(lease.ID, lease.TTL) for lease in leases], lambda: _rows(path))


def _rows(path: Path) -> Iterator[tuple[int, KeyValue]]:
    from tiphys.store.etcdpb import pb, read_kv

    with bbolt.Reader(path) as reader:
        for key, value in reader.bucket(b"key"):
            revision, _, place = REVISION_KEY.unpack_from(key)
            deleted = key[REVISION_KEY.size :] == TOMBSTONE
            message: Any = pb.KeyValue.FromString(value)
            kv = KeyValue(message.key, b"", 0, revision, 0, 0) if deleted else read_kv(message)
            yield row_id(revision, place, deleted=deleted), kv


def status(path: Path) -> Status:
    """As etcdctl: the hash is of everything in the file, the keys are all changes that are kept."""
    from google_crc32c import extend

    crc = 0
    keys = 0
    with bbolt.Reader(path) as reader:
        for bucket in reader.buckets():
            crc = extend(crc, bucket)
            for key, value in reader.bucket(bucket):
                crc = extend(extend(crc, key), value)
                keys += 1
        size = reader.pages * reader.page_size
    return Status(crc, read(path).revision, keys, size)
