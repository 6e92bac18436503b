"""Automatic compaction for a store that nobody compacts: keep so many hours of history, or so many revisions.

The API server compacts its store itself; this is for ``tiphys etcd --auto-compaction-retention``.
Source: https://etcd.io/docs/v3.6/op-guide/maintenance/#auto-compaction
"""

from __future__ import annotations

import logging
from collections import deque

from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend, Compacted, StoreError

log = logging.getLogger(__name__)

REVISION_CHECK_SECONDS = 300.0


class Periodic:
    """Decides what to compact so that ``retention`` seconds of history stay. Pure: callers pass the time."""

    def __init__(self, retention: float) -> None:
        self._retention = retention
        self.interval = min(retention, 3600.0) / 10
        """How often to ask, in seconds."""
        self._seen: deque[tuple[float, int]] = deque()

    def due(self, now: float, revision: int) -> int:
        """The revision to compact, 0 for none."""
        self._seen.append((now, revision))
        target = 0
        while self._seen and self._seen[0][0] <= now - self._retention:
            target = self._seen.popleft()[1]
        return target


class RevisionWindow:
    """Decides what to compact so that ``kept`` revisions stay."""

    interval = REVISION_CHECK_SECONDS

    def __init__(self, kept: int) -> None:
        self._kept = kept

    def due(self, now: float, revision: int) -> int:
        return max(0, revision - self._kept)


async def run(store: Backend, policy: Periodic | RevisionWindow, clock: Clock) -> None:
    """Compact the store as the policy says, until cancelled."""
    done = 0
    while True:
        await clock.sleep(policy.interval)
        target = policy.due(clock.monotonic(), await store.current_revision())
        if target <= max(done, 1):
            continue
        try:
            await store.compact(target)
            log.info("compacted revision %d", target)
        except Compacted:
            log.debug("revision %d is compacted already", target)
        except StoreError as error:
            log.warning("revision %d could not be compacted: %s", target, error)
            continue
        done = target
