"""A seal for every row: the checksum of what it holds, and a chain over all rows that were written before it.

A seal is one integer, ``chain << 32 | sum``. ``sum`` (CRC-32C) finds a row that holds something else than was written;
``chain`` follows from the sum and the chain of the row written before, so it finds rows that are missing, or of another
history. Compaction removes rows, and with them the links of the chain: only the rows after the compacted revision
follow one another without a gap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from google_crc32c import value as crc32c

from tiphys.store.backend import KeyValue
from tiphys.store.mvcc import revision_of

UNSEALED = -1
"""The seal of rows from before there were seals (format 1)."""
_SUM_BITS = 32
_SUM = (1 << _SUM_BITS) - 1
_CHAIN = (1 << 31) - 1
_FACTOR = 16777619
_numbers = struct.Struct(">4q").pack

SealedRow = tuple[int, bytes, int, int, int, bytes, int]
"""Row number, key, create revision, version, lease, value, seal."""


def sealed(rows: Iterable[tuple[int, KeyValue]], before: int) -> list[SealedRow]:
    """Rows with their seals, written after one with the seal ``before``. In one piece, as every write pays for it."""
    result: list[SealedRow] = []
    chain = before >> _SUM_BITS
    numbers, join, checksum, add = _numbers, b"".join, crc32c, result.append
    for number, (key, value, create, _, version, lease) in rows:
        total = checksum(join((numbers(number, create, version, lease), key, value)))
        chain = (chain * _FACTOR + total) & _CHAIN
        add((number, key, create, version, lease, value, chain << _SUM_BITS | total))
    return result


def broken(rows: Iterable[SealedRow], compacted: int) -> Iterator[tuple[int, str]]:
    """What is wrong with rows, oldest first, each with its seal: the row number and a sentence for each that is."""
    before: int | None = None
    for number, key, create, version, lease, value, kept in rows:
        if kept == UNSEALED:
            before = None
            continue
        total = crc32c(b"".join((_numbers(number, create, version, lease), key, value)))
        if total != kept & _SUM:
            yield number, f"revision {revision_of(number)} of the key {key!r} does not hold what was written"
        elif before is not None and kept >> _SUM_BITS != (before * _FACTOR + total) & _CHAIN:
            yield number, f"what was written before revision {revision_of(number)} is missing or of another history"
        before = kept >> _SUM_BITS if revision_of(number) > compacted else None
