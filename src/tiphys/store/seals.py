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

from tiphys.store.mvcc import revision_of

UNSEALED = -1
"""The seal of rows from before there were seals (format 1)."""
_SUM_BITS = 32
_SUM = (1 << _SUM_BITS) - 1
_CHAIN = (1 << 31) - 1
_FACTOR = 16777619
_numbers = struct.Struct(">4q").pack

Row = tuple[int, bytes, int, int, int, bytes]
"""Row number, key, create revision, version, lease, value."""


def seal(row: Row, before: int) -> int:
    """The seal of a row that is written after one with the seal ``before``."""
    number, key, create, version, lease, value = row
    total: int = crc32c(b"".join((_numbers(number, create, version, lease), key, value)))
    return _link(before, total) << _SUM_BITS | total


def _link(before: int, total: int) -> int:
    return ((before >> _SUM_BITS) * _FACTOR + total) & _CHAIN


def broken(rows: Iterable[tuple[int, bytes, int, int, int, bytes, int]], compacted: int) -> Iterator[tuple[int, str]]:
    """What is wrong with rows, oldest first, each with its seal: the row number and a sentence for each that is."""
    before: int | None = None
    for *content, kept in rows:
        row: Row = tuple(content)  # type: ignore[assignment]
        number, key = row[:2]
        if kept == UNSEALED:
            before = None
            continue
        total = kept & _SUM
        if seal(row, 0) & _SUM != total:
            yield number, f"revision {revision_of(number)} of the key {key!r} does not hold what was written"
        elif before is not None and kept >> _SUM_BITS != _link(before, total):
            yield number, f"what was written before revision {revision_of(number)} is missing or of another history"
        before = kept if revision_of(number) > compacted else None
