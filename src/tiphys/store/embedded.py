"""``Backend`` over the MVCC core: what the memory and the SQLite store have in common.

A write goes: core (in memory, at once) → ``_submit`` (made durable, together with others) → ``_settle`` (watches and
the caller get theirs). Reads see settled revisions only. If a write cannot be made durable it is
undone in the core, together with all that came after it.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner
from tiphys.store import quota
from tiphys.store.backend import (
    Delete,
    DeleteResult,
    LeaseNotFound,
    LeaseStatus,
    NoSpace,
    Put,
    PutResult,
    Range,
    RangeResult,
    StoreError,
    Txn,
    TxnResult,
    Unavailable,
    WatchRequest,
)
from tiphys.store.contents import Contents
from tiphys.store.mvcc import Core, Lessor, RowChange, Rows
from tiphys.store.watching import StoreWatch, WatchHub

log = logging.getLogger(__name__)

SWEEP_KEYS = 500
"""How many keys one step of a compaction looks at; other requests are served between two steps."""

Failure = StoreError | None
"""How a write ended: ``None`` for well."""


@dataclass(slots=True)
class Write:
    """What has to become durable as one: changes of keys, a lease that came or went, a compaction."""

    changes: Sequence[RowChange] = ()
    granted: tuple[int, int] | None = None
    """Lease and TTL."""
    ended: tuple[int, int] | None = None
    """Lease, and the TTL it had."""
    compacted: int = 0
    compacted_before: int = 0

    @property
    def is_special(self) -> bool:
        """Whether it is more than changes of keys."""
        return self.granted is not None or self.ended is not None or bool(self.compacted)


class Embedded(ABC):
    """A ``Backend`` in this process. Subclasses say how writes become durable."""

    def __init__(self, rows: Rows, clock: Clock, progress_interval: float = 600.0) -> None:
        self.cluster_id = self.member_id = 1
        """What etcd's API calls the store; a store on disk has ids of its own."""
        self.lessor = Lessor()
        self.core = Core(rows, self.lessor)
        self.hub = WatchHub(self.core)
        self._clock = clock
        self._runner = Runner(clock, "store ")
        self.progress_interval = progress_interval
        """Seconds between progress notifications to watches that requested them."""
        self._expiry_task: asyncio.Task[None] | None = None
        self._expiry_at = float("inf")
        self._progress_task: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False
        self._no_space_alarm = False
        self.bounded = False
        """Whether writes are counted against a quota."""
        self._publish: Callable[[int], None] | None = None

    @abstractmethod
    def _submit(self, write: Write) -> asyncio.Future[Failure] | None:
        """Make a write durable and settle it; ``None`` where that has been done already.

        Writes become durable in the order in which they are submitted. An empty one waits for those before it.
        """

    @abstractmethod
    def _drop_rows(self, rows: list[int]) -> asyncio.Future[Failure] | None:
        """Forget compacted rows; it does not matter when."""

    def _check_writable(self, *, adds: bool) -> None:
        """Raise where a write cannot be taken now; ``adds`` whether it takes room."""
        if self._closed:
            raise Unavailable("etcdserver: server stopped")
        if adds and self._no_space_alarm:
            raise NoSpace

    def _reserve(self, size: int) -> None:
        """Raise ``NoSpace`` where a write of so many bytes does not fit; no store but one on disk is bounded."""
        return

    # Keys

    async def range(self, request: Range) -> RangeResult:
        return self.core.range(request, self.hub.revision)

    async def put(self, request: Put) -> PutResult:
        self._check_writable(adds=True)
        if self.bounded:
            self._reserve(quota.cost(request))
        result, changes = self.core.put(request)
        await self._durable(Write(changes))
        return result

    async def delete(self, request: Delete) -> DeleteResult:
        self._check_writable(adds=False)
        result, changes = self.core.delete(request)
        await self._durable(Write(changes))
        return result

    async def txn(self, request: Txn) -> TxnResult:
        self._check_writable(adds=any_put(request))
        if self.bounded:
            self._reserve(quota.cost(request))
        result, changes = self.core.txn(request)
        await self._durable(Write(changes))
        return result

    async def current_revision(self) -> int:
        return self.hub.revision

    async def _durable(self, write: Write) -> None:
        """Wait until a write, or at least the state that its answer speaks of, is durable."""
        if not write.changes and self.core.revision == self.hub.revision and not (write.granted or write.ended):
            return
        future = self._submit(write)
        if future is not None and (failure := await future) is not None:
            raise failure

    def _settle(self, writes: Sequence[Write]) -> None:
        """Writes are durable: send them to the watches."""
        if len(writes) == 1:
            changes = writes[0].changes
        else:
            changes = [change for write in writes for change in write.changes]
        if changes:
            revision = changes[-1].kv.mod_revision
            self.hub.publish(changes, revision)
            if self._publish is not None:
                self._publish(revision)

    def publish_to(self, publish: Callable[[int], None]) -> None:
        """Call ``publish`` with the revision now, and with each before a write of it is acknowledged."""
        publish(self.hub.revision)
        self._publish = publish

    def _undo(self, writes: Sequence[Write]) -> None:
        """Writes could not be made durable: take them back, newest first."""
        for write in reversed(writes):
            self.core.undo(write.changes)
            if write.granted is not None:
                self.lessor.end(write.granted[0])
            if write.ended is not None:
                self.lessor.grant(*write.ended, self._clock.monotonic())
                self._schedule_expiry()
            if write.compacted:
                self.core.compacted = write.compacted_before

    # Watching

    async def watch(self, request: WatchRequest) -> StoreWatch:
        if self._closed:
            raise Unavailable("etcdserver: server stopped")
        watch = self.hub.open(request)
        if request.progress_notify and self._progress_task is None:
            self._progress_task = self._runner.supervise(self._notify_progress, "watch progress")
        return watch

    async def _notify_progress(self) -> None:
        """Now and then send progress notifications to the watches that requested them."""
        while True:
            await self._clock.sleep(self.progress_interval)
            for watch in self.hub.watches:
                if watch.request.progress_notify and not watch.ready():
                    watch.want_progress()

    # Compaction

    async def compact(self, revision: int, *, physical: bool = False) -> int:
        self._check_writable(adds=False)
        before = self.core.compacted
        self.core.compact(revision, self.hub.revision)
        future = self._submit(Write(compacted=revision, compacted_before=before))
        if future is not None and (failure := await future) is not None:
            raise failure
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = self._runner.spawn(self._sweep(), "compaction")
        if physical:
            await asyncio.shield(self._sweeping)
        return self.hub.revision

    async def _sweep(self) -> None:
        """Forget what compactions made unreadable, until there is nothing more to forget."""
        done = -1
        while done != self.core.compacted:
            done = self.core.compacted
            for rows in self.core.sweep(SWEEP_KEYS):
                future = self._drop_rows(rows) if rows else None
                if future is not None:
                    await future
                await asyncio.sleep(0)
        await self._swept()

    async def _swept(self) -> None:
        """A compaction's work is done: give room back, where there is such a thing."""
        return

    # Leases

    async def lease_grant(self, ttl: int, id: int = 0) -> LeaseStatus:
        self._check_writable(adds=True)
        self._reserve(quota.LEASE_COST)
        if not id:
            id = self._new_lease_id()
        ttl = self.lessor.check(id, ttl)
        self.lessor.grant(id, ttl, self._clock.monotonic())
        await self._durable(Write(granted=(id, ttl)))
        self._schedule_expiry()
        return LeaseStatus(id, ttl, ttl)

    async def lease_revoke(self, id: int) -> int:
        self._check_writable(adds=False)
        ttl = self.lessor.ttl(id)
        changes = self.core.revoke(id)
        self.lessor.end(id)
        await self._durable(Write(changes, ended=(id, ttl)))
        return changes[0].kv.mod_revision if changes else self.hub.revision

    async def lease_keep_alive(self, id: int) -> LeaseStatus:
        ttl = self.lessor.renew(id, self._clock.monotonic())
        return LeaseStatus(id, ttl, ttl)

    async def lease_status(self, id: int, *, keys: bool = False) -> LeaseStatus:
        left = self.lessor.remaining(id, self._clock.monotonic())
        if left is None:
            return LeaseStatus(id, -1, 0)
        return LeaseStatus(id, *left, sorted(self.core.attached.get(id, ())) if keys else ())

    async def leases(self) -> Sequence[int]:
        return self.lessor.ids()

    def _new_lease_id(self) -> int:
        id = (self.core.revision << 20) + 1
        while id in self.lessor:
            id += 1
        return id

    def _schedule_expiry(self) -> None:
        """Have a task that sleeps until the next lease runs out."""
        due = self.lessor.next_expiry()
        if due is None or self._closed:
            return
        if self._expiry_task is not None and not self._expiry_task.done():
            if self._expiry_at <= due:
                return
            self._expiry_task.cancel()
        self._expiry_at = due
        self._expiry_task = self._runner.spawn(self._expire(), "lease expiry")

    async def _expire(self) -> None:
        while (due := self.lessor.next_expiry()) is not None:
            self._expiry_at = due
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
            for id in self.lessor.expired(self._clock.monotonic()):
                try:
                    await self.lease_revoke(id)
                except LeaseNotFound:
                    continue  # revoked by its owner in the meantime
                except StoreError:  # no room to write a deletion: try again later
                    await self._clock.sleep(1.0)
                except Exception:
                    log.exception("lease %x cannot be ended; trying again", id)
                    await self._clock.sleep(1.0)

    # What a server's operator asks for

    @abstractmethod
    def contents(self) -> AbstractContextManager[Contents]:
        """A picture of everything that is durable now, which later writes do not change. May be read in a thread."""

    @abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Bytes that the store takes, and how many of them are in use."""

    async def defragment(self) -> None:
        """Give back all room that is not in use."""
        return

    def no_space(self) -> bool:
        """Whether the NOSPACE alarm is on."""
        return self._no_space_alarm

    async def set_no_space(self, *, on: bool) -> None:
        """Turn the alarm on or off by hand, durably; it comes back if there still is no room."""
        self._no_space_alarm = on

    # Health and end

    async def healthy(self) -> None:
        self._check_writable(adds=True)

    async def close(self) -> None:
        self._closed = True
        self.hub.close()
        await self._runner.close()


def any_put(txn: Txn) -> bool:
    """Whether a transaction may add something."""
    for branch in (txn.success, txn.failure):
        for op in branch:
            if type(op) is Put or (type(op) is Txn and any_put(op)):
                return True
    return False
