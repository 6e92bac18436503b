"""Where the core finds what a revision of a key held.

Source: https://etcd.io/docs/v3.6/learning/data_model/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from tiphys.store.backend import KeyValue


class Rows(Protocol):
    """The rows of the store, by row number. A deletion's row has no value, create revision or version."""

    def add(self, row: int, kv: KeyValue) -> None:
        """Keep a new row; rows come in ascending order."""
        ...

    def drop(self, rows: Iterable[int]) -> None:
        """Forget rows: of a write that is undone, or compacted ones."""
        ...

    def read(self, rows: Sequence[int]) -> list[KeyValue]:
        """What the rows hold, in the order requested. Every row must exist."""
        ...

    def values(self, rows: Sequence[int]) -> list[bytes]:
        """The values alone."""
        ...


class MemoryRows:
    """Rows in a dict."""

    __slots__ = ("_kvs", "add")

    def __init__(self) -> None:
        self._kvs: dict[int, KeyValue] = {}
        self.add = self._kvs.__setitem__

    def items(self) -> list[tuple[int, KeyValue]]:
        """Every row, oldest first."""
        return list(self._kvs.items())

    def drop(self, rows: Iterable[int]) -> None:
        for row in rows:
            del self._kvs[row]

    def read(self, rows: Sequence[int]) -> list[KeyValue]:
        return list(map(self._kvs.__getitem__, rows))

    def values(self, rows: Sequence[int]) -> list[bytes]:
        return [kv.value for kv in self.read(rows)]
