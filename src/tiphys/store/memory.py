"""The store in memory, for tests and simulations: the MVCC core behind ``Backend``, without threads or files."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext

from tiphys.runtime.clock import Clock
from tiphys.store.contents import Contents
from tiphys.store.embedded import Embedded, Failure, Write
from tiphys.store.mvcc import MemoryRows


class MemoryBackend(Embedded):
    """Every write takes effect at once. Can be made outside an event loop, in microseconds."""

    def __init__(self, clock: Clock) -> None:
        self._rows = MemoryRows()
        super().__init__(self._rows, clock)

    def _submit(self, write: Write) -> asyncio.Future[Failure] | None:
        self._settle((write,))
        return None

    def contents(self) -> AbstractContextManager[Contents]:
        rows = self._rows.items()
        return nullcontext(Contents(self.core.revision, self.core.compacted, self.lessor.items(), lambda: rows))

    def sizes(self) -> tuple[int, int]:
        size = sum(len(kv.key) + len(kv.value) for _, kv in self._rows.items())
        return size, size

    def _drop_rows(self, rows: list[int]) -> asyncio.Future[Failure] | None:
        self._rows.drop(rows)
        return None
