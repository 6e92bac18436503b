"""The embedded durable store: the MVCC core over SQLite, with group commit.

Writes that arrive while a commit is under way form the next group: one transaction, one ``fsync``, many answers. Rows
are inserted on the event loop, as that touches memory only; the commit, which waits for the disk, is done by one
thread, to which the connection is lent meanwhile. On virtual time the commit is done in place, as the clock would run
away while a thread works. Source: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from tiphys.runtime.clock import Clock, VirtualTimeLoop
from tiphys.store import losses
from tiphys.store.backend import NoSpace, StoreError, Unavailable
from tiphys.store.contents import Contents
from tiphys.store.embedded import Embedded, Failure, Write
from tiphys.store.mvcc import RowChange
from tiphys.store.newest import NewestRevision
from tiphys.store.quota import Quota
from tiphys.store.sqlfile import CannotOpen, DataDirectory, SQLiteRows, StoreFile

log = logging.getLogger(__name__)

ROOM_TO_GO_ON = 16 << 20
"""After the disk was full: how many free bytes it takes before writes are tried again."""
PAGES_GIVEN_BACK = 500
"""How many free pages one step returns to the file system."""

PAGE = 4096
CHECKPOINT_BYTES = 2000 * PAGE
"""How far SQLite's log grows before it is carried over into the file."""
LOG_BYTES = 2 * CHECKPOINT_BYTES
"""How long the log is made in advance, once it is known that the store is written to."""
LOG_STEP = 256 * PAGE
LENGTHEN_AFTER = 32 * PAGE
CHECK_AFTER = 10.0
"""Seconds after a start before old rows are held against their seals: until then clients read everything again."""
CHECK_ROWS = 500
CHECK_PAUSE = 0.05
"""How many rows of a large store are held against their seals at a time, and the pause after, in seconds."""
QUICK = 0.0003
"""Commits that take less than this, in seconds, are done on the event loop."""

Job = Callable[[], None]
Done = Callable[[sqlite3.Error | None], None]
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}


@dataclass(slots=True)
class CommitGroup:
    """Writes that become durable together, and who waits for them."""

    writes: list[Write] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    waiters: list[asyncio.Future[Failure]] = field(default_factory=list)
    reserved: int = 0
    """What the quota had counted when the group was closed."""

    def is_plain(self) -> bool:
        """Whether there is nothing but changes of keys."""
        return not self.dropped and not any(write.is_special for write in self.writes)


ALARM = "no_space"
"""Name of the row that says whether the alarm is on."""


class Loan(enum.Enum):
    """Where the writing connection is: here, or lent to the committer."""

    FREE = enum.auto()
    DUE = enum.auto()
    """Wanted: a flush will take it, in the next turn of the loop."""
    LENT = enum.auto()
    """The committer has it."""


class Writes(enum.Enum):
    """Whether writes are taken."""

    TAKEN = enum.auto()
    WITHOUT_ROOM = enum.auto()
    """The disk was full: only what frees space is, until there is room again."""
    STOPPED = enum.auto()
    """Not before the store is opened again."""


_FREE, _LENT, _TAKEN = Loan.FREE, Loan.LENT, Writes.TAKEN


class Committer:
    """Runs jobs one at a time, and then calls ``done`` on the event loop.

    A job is done in a thread, so that the loop does not wait for the disk, except if the last ones took less time
    than handing them over does: two threads that wake each other, and wait for the interpreter's lock.
    """

    def __init__(self, clock: Clock, *, in_thread: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._seconds: deque[float] = deque([0.0], maxlen=9)
        """What the last jobs took."""
        self._jobs: queue.SimpleQueue[tuple[Job, Done] | None] = queue.SimpleQueue()
        self.in_thread = in_thread
        self._thread = threading.Thread(target=self._work, name="store-commit", daemon=True)
        if in_thread:
            self._thread.start()

    def run(self, job: Job, done: Done) -> None:
        if self.in_thread:
            self._jobs.put((job, done))
        else:
            self._loop.call_soon(done, _attempt(job))

    def run_quick(self, job: Job, done: Done) -> None:
        """A job that is done on the loop if it promises to be quick."""
        if not self.in_thread or sorted(self._seconds)[len(self._seconds) // 2] > QUICK:
            self.run(lambda: self._timed(job), done)
        else:
            done(_attempt(lambda: self._timed(job)))

    def _timed(self, job: Job) -> None:
        began = self._clock.monotonic()
        job()
        self._seconds.append(self._clock.monotonic() - began)

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            self._loop.call_soon_threadsafe(done, _attempt(job))

    async def close(self) -> None:
        if self.in_thread:
            self._jobs.put(None)
            await self._loop.run_in_executor(None, self._thread.join)


def _attempt(job: Job) -> sqlite3.Error | None:
    try:
        job()
    except sqlite3.Error as error:
        return error
    return None


class SQLiteBackend(Embedded):
    """Open with ``await SQLiteBackend.open(directory, clock)``."""

    def __init__(
        self, directory: DataDirectory, file: StoreFile, newest: NewestRevision, *, clock: Clock, quota: int
    ) -> None:
        rows = SQLiteRows(file)
        super().__init__(rows, clock)
        self.directory = directory
        self.file = file
        self.cluster_id, self.member_id = file.meta["cluster_id"], file.meta["member_id"]
        self._newest = newest
        self._quota = Quota(quota, lambda: file.sizes()[1])
        self.bounded = quota > 0
        self._no_space_alarm = bool(file.meta.get(ALARM))
        self._pending = rows.pending
        self._group = CommitGroup()
        self._writer = Loan.FREE
        self._errands: list[tuple[Job, asyncio.Future[sqlite3.Error | None]]] = []
        self._errand_is_due = False
        """Groups and errands take turns, so that neither waits for ever."""
        self._logged = 0
        """About how many bytes the log has grown by since it was carried over."""
        self._checkpointing: asyncio.Task[None] | None = None
        self._writes = Writes.TAKEN
        self._stopped_for = ""
        self._idle: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._committer = Committer(clock, in_thread=not isinstance(self._loop, VirtualTimeLoop))
        self._log_is_long = not self._committer.in_thread
        """On virtual time no disk makes anybody wait."""

    @classmethod
    async def open(
        cls, directory: str | os.PathLike[str], clock: Clock, quota: int = 0, *, accept_loss: bool = False
    ) -> SQLiteBackend:
        """Open or create the store in ``directory``; ``quota`` bounds its size in bytes (0: only the disk does).

        Raises ``CannotOpen`` if the directory is in use, or its file is of a newer format or damaged. With
        ``accept_loss`` a store that has lost something is opened with what is left of it.
        """
        place = DataDirectory(directory)
        try:
            before = losses.look(place, accept_loss=accept_loss)
            file = StoreFile(place)
        except BaseException:
            place.release()
            raise
        try:
            losses.check(place, file, before, accept_loss=accept_loss)
            backend = cls(place, file, NewestRevision(place.path, file.revision()), clock=clock, quota=quota)
        except BaseException:
            file.close()
            place.release()
            raise
        try:
            backend._load()
        except BaseException:
            await backend.close()
            raise
        return backend

    def _load(self) -> None:
        self.core.load(self.file.index(), 1, self.file.meta.get("compacted", 0))
        self.hub.revision = self.core.revision
        for id, ttl in self.file.leases():
            self.lessor.grant(id, ttl, self._clock.monotonic())
        self._schedule_expiry()
        if self.core.compacted:  # the work of the last compaction may have been cut off
            self._sweeping = self._runner.spawn(self._sweep(), "compaction")
        if self._committer.in_thread:
            self._runner.spawn(self._check_rows(), "check of the rows")

    async def _check_rows(self) -> None:
        """Hold the rows that were not looked at when the store was opened against their seals, bit by bit."""
        last = self.file.checked_to
        if last:
            await self._clock.sleep(CHECK_AFTER)
        while last:
            await self._clock.sleep(CHECK_PAUSE)
            last, wrong = await asyncio.to_thread(self.file.check_rows, last, CHECK_ROWS)
            if wrong:
                self._stop_writing(losses.refusal(self.directory.path, [sentence for _, sentence in wrong]))
                return

    def _stop_writing(self, reason: str) -> None:
        """Take no more writes until the store is opened again; health says why."""
        self._writes, self._stopped_for = Writes.STOPPED, reason
        log.error("%s", reason)

    # Group commit

    def _submit(self, write: Write) -> asyncio.Future[Failure]:
        self._group.writes.append(write)
        return self._join()

    def _drop_rows(self, rows: list[int]) -> asyncio.Future[Failure]:
        self._group.dropped += rows
        return self._join()

    def _join(self) -> asyncio.Future[Failure]:
        """Wait for the group that is being gathered."""
        waiter: asyncio.Future[Failure] = self._loop.create_future()
        self._group.waiters.append(waiter)
        self._schedule_flush()
        return waiter

    def _schedule_flush(self) -> None:
        if self._writer is _FREE:
            self._writer = Loan.DUE
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write the gathered group down and have it committed, or run an errand that needs the connection."""
        if self._writer is _LENT:
            return
        self._writer = _FREE
        group = self._group
        if self._errands and (self._errand_is_due or not group.waiters):
            self._run_errand()
            return
        if not group.waiters:
            return
        self._errand_is_due = True
        self._group = CommitGroup()
        group.reserved = self._quota.reserved
        changes = [change for write in group.writes for change in write.changes]
        job: Job
        if len(changes) == 1 and group.is_plain():
            job = partial(self.file.insert_alone, changes[0])
        else:
            try:
                self._write_down(group, changes)
            except sqlite3.Error as error:
                self._failed(group, error)
                return
            job = self.file.commit
        if changes:
            job = partial(self._commit_revision, job, changes[-1].kv.mod_revision)
        self._writer = _LENT
        self._committer.run_quick(job, lambda error: self._committed(group, error))

    def _commit_revision(self, commit: Job, revision: int) -> None:
        commit()
        self._newest.write(revision)

    def _write_down(self, group: CommitGroup, changes: list[RowChange]) -> None:
        file = self.file
        file.writer.execute("BEGIN IMMEDIATE")
        file.insert(changes)
        for write in group.writes:
            if write.granted is not None:
                file.add_lease(*write.granted)
            if write.ended is not None:
                file.remove_lease(write.ended[0])
            if write.compacted:
                file.set_meta("compacted", write.compacted)
        if group.dropped:
            file.delete_rows(group.dropped)

    def _committed(self, group: CommitGroup, error: sqlite3.Error | None) -> None:
        self._writer = _FREE
        self._quota.committed = group.reserved
        if error is not None:
            self._failed(group, error)
            return
        self._settle(group.writes)
        pending, size = self._pending, PAGE
        for write in group.writes:
            for change in write.changes:
                size += len(pending.pop(change.row).value)
        self._logged += size
        if not self._log_is_long and self._logged >= LENGTHEN_AFTER:
            self._log_is_long = True
            self._runner.spawn(self._lengthen_log(), "store log")
        if self._logged >= CHECKPOINT_BYTES and self._checkpointing is None:
            self._checkpointing = self._loop.create_task(self._checkpoint(), name="store checkpoint")
        for waiter in group.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._next()

    def _next(self) -> None:
        """Go on after a commit. Scheduled after those who were just answered, so that their next writes join in."""
        if self._group.waiters or self._errands:
            self._schedule_flush()
        elif self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _failed(self, group: CommitGroup, error: sqlite3.Error) -> None:
        """A group could not be made durable: undo it, and what has been built on it."""
        self.file.roll_back()
        later, self._group = self._group, CommitGroup()
        self._undo(group.writes + later.writes)
        self._group.dropped = group.dropped + later.dropped  # the index has forgotten them already
        if error.sqlite_errorcode in _FULL:
            if self._writes is _TAKEN:
                self._writes = Writes.WITHOUT_ROOM
            log.error("the disk is full: writes are refused until there is room in %s", self.directory.path)
        else:
            self._stop_writing(f"the store's file {self.file.path} cannot be written: {error}")
        for waiter in group.waiters + later.waiters:
            if not waiter.done():
                waiter.set_result(self._refusal())
        self._next()

    def _refusal(self) -> StoreError:
        return Unavailable(self._stopped_for) if self._writes is Writes.STOPPED else NoSpace()

    def _check_writable(self, *, adds: bool) -> None:
        super()._check_writable(adds=adds)
        if self._writes is _TAKEN:
            return
        if self._writes is Writes.STOPPED:
            raise self._refusal()
        if adds and self.no_space():
            raise NoSpace

    def no_space(self) -> bool:
        if self._writes is Writes.WITHOUT_ROOM and self.directory.room() >= ROOM_TO_GO_ON:
            self._writes = _TAKEN
            log.info("there is room again in %s: writes are taken", self.directory.path)
        return self._writes is Writes.WITHOUT_ROOM or super().no_space()

    def _reserve(self, size: int) -> None:
        """Raise the alarm if the store would outgrow its quota; an operator takes it back, as in etcd."""
        if self.bounded and not self._quota.reserve(size):
            self._no_space_alarm = True
            log.error("the store is at its quota of %d bytes: compact it, then disarm the alarm", self._quota.limit)
            self._keep_alarm(on=True)
            raise NoSpace

    async def set_no_space(self, *, on: bool) -> None:
        await super().set_no_space(on=on)
        if (error := await self._keep_alarm(on=on)) is not None:
            log.warning("the alarm NOSPACE will not outlive a restart, as it cannot be written down: %s", error)

    def _keep_alarm(self, *, on: bool) -> asyncio.Future[sqlite3.Error | None]:
        """Write down whether the alarm is on, for the next start."""
        return self._send_errand(lambda: self.file.set_meta(ALARM, int(on)))

    def contents(self) -> AbstractContextManager[Contents]:
        return self.file.contents()

    def sizes(self) -> tuple[int, int]:
        return self.file.sizes()

    # Errands: other work on the writing connection, between two groups

    async def _errand(self, job: Job) -> None:
        """Have a job done by the committer; raises what it raises."""
        if (error := await self._send_errand(job)) is not None:
            raise error

    def _send_errand(self, job: Job) -> asyncio.Future[sqlite3.Error | None]:
        done: asyncio.Future[sqlite3.Error | None] = self._loop.create_future()
        self._errands.append((job, done))
        self._schedule_flush()
        return done

    def _run_errand(self) -> None:
        job, waiter = self._errands.pop(0)
        self._errand_is_due = False
        self._writer = _LENT
        self._committer.run(job, lambda error: self._errand_done(waiter, error))

    def _errand_done(self, waiter: asyncio.Future[sqlite3.Error | None], error: sqlite3.Error | None) -> None:
        self._writer = _FREE
        if not waiter.done():
            waiter.set_result(error)
        self._next()

    async def _checkpoint(self) -> None:
        """Carry the log over into the file, and restart it.

        First beside the writes that continue, in a thread and by its own connection, then, while writes wait, the
        little that they have added; SQLite overwrites a log from its beginning only if nothing of it is left.
        """
        self._logged = 0
        try:
            if self._committer.in_thread:
                await asyncio.to_thread(self.file.checkpoint_beside)
            await self._errand(self.file.checkpoint)
            await self._errand(self._newest.sync)
        except sqlite3.Error as error:  # the log keeps growing; most likely there is no room for the file to grow
            log.warning("the store's log could not be carried over into its file: %s", error)
        finally:
            self._checkpointing = None

    async def _lengthen_log(self) -> None:
        """Give the log room in advance, a step between every two groups, if the disk has plenty."""
        left = True

        def step() -> None:
            nonlocal left
            try:
                left = self.file.lengthen_log(LOG_BYTES, LOG_STEP)
            except OSError as error:  # commits are slower without, and that is all
                log.info("the store's log is not made longer in advance: %s", error)
                left = False

        while left and self.directory.room() > 10 * LOG_BYTES:
            await self._errand(step)

    async def _swept(self) -> None:
        """Return free pages to the file system, a few at a time."""
        left = [1]

        def step() -> None:
            left[0] = self.file.give_back(PAGES_GIVEN_BACK)

        while left[0] > 0:
            before = left[0]
            try:
                await self._errand(step)
            except sqlite3.Error as error:
                log.warning("free pages could not be given back: %s", error)
                return
            if left[0] == before:
                return

    async def check_file(self) -> None:
        """Read the whole file, and check its structure and the rows' seals. Raises ``CannotOpen``."""
        await asyncio.to_thread(self.file.check)
        _, wrong = await asyncio.to_thread(self.file.check_rows)
        if wrong:
            raise CannotOpen(losses.refusal(self.directory.path, [sentence for _, sentence in wrong]))

    async def defragment(self) -> None:
        """Rewrite the file without holes. Writes wait meanwhile, reads do not."""
        try:
            await self._errand(self.file.rewrite)
        except sqlite3.Error as error:
            raise StoreError(f"etcdserver: defragmentation failed: {error}") from error

    async def close(self) -> None:
        if self._closed:
            return
        await super().close()
        if self._checkpointing is not None:
            await self._checkpointing
        if self._writer is _LENT or self._group.waiters or self._errands:
            self._idle = self._loop.create_future()
            await self._idle
        await self._committer.close()
        self.file.close()
        self._newest.close()
        self.directory.release()
