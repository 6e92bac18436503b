"""``Backend`` over etcd's gRPC API: real etcd, of one member or many.

Source: https://etcd.io/docs/v3.6/learning/client-design/
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio

from tiphys.runtime.clock import Clock, SystemClock, backoff
from tiphys.runtime.tasks import Runner
from tiphys.store.backend import (
    Compacted,
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
    WatchBatch,
    WatchRequest,
)
from tiphys.store.etcdchannel import Channels, ClientTLS
from tiphys.store.etcdpb import (
    pb,
    read_delete_result,
    read_event,
    read_put_result,
    read_range_result,
    read_txn_result,
    write_delete,
    write_put,
    write_range,
    write_txn,
)

log = logging.getLogger(__name__)

NO_SPACE = 1
NO_WATCH = -1
WAITING_BATCHES = 100
"""How many messages wait for a watch's reader before the next one is read from the stream."""
SILENT_SECONDS = 5.0
"""A stream on which nothing arrives for so long after progress was requested is dead."""


class EtcdBackend:
    """Use from within an event loop. Endpoints as etcdctl takes them; ``timeout`` in seconds bounds each call."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ClientTLS | None = None,
        clock: Clock | None = None,
        timeout: float = 10.0,
    ) -> None:
        self.channels = Channels(endpoints, tls, timeout)
        self._clock = clock or SystemClock()
        self._runner = Runner(self._clock, "etcd ")
        self._watches: set[EtcdWatch] = set()
        self._exact_progress: bool | None = None
        method = self.channels.method
        self._range = method("KV", "Range")
        self._put = method("KV", "Put")
        self._delete = method("KV", "DeleteRange")
        self._txn = method("KV", "Txn")

    # Keys

    async def range(self, request: Range) -> RangeResult:
        response = await self.channels.unary(self._range, write_range(request), repeatable=True)
        return read_range_result(response)

    async def put(self, request: Put) -> PutResult:
        return read_put_result(await self.channels.unary(self._put, write_put(request), repeatable=False))

    async def delete(self, request: Delete) -> DeleteResult:
        return read_delete_result(await self.channels.unary(self._delete, write_delete(request), repeatable=False))

    async def txn(self, request: Txn) -> TxnResult:
        return read_txn_result(await self.channels.unary(self._txn, write_txn(request), repeatable=False))

    async def current_revision(self) -> int:
        return (await self.range(Range(b"\0", count_only=True))).revision

    async def compact(self, revision: int, *, physical: bool = False) -> int:
        request = pb.CompactionRequest(revision=revision, physical=physical)
        response = await self.channels.unary(self.channels.method("KV", "Compact"), request, repeatable=False)
        return int(response.header.revision)

    # Watching

    async def watch(self, request: WatchRequest) -> EtcdWatch:
        start = request.start_revision or await self.current_revision() + 1
        watch = EtcdWatch(backend=self, request=request, start=start, clock=self._clock, runner=self._runner)
        self._watches.add(watch)
        return watch

    def forget(self, watch: EtcdWatch) -> None:
        self._watches.discard(watch)

    # Leases

    async def lease_grant(self, ttl: int, id: int = 0) -> LeaseStatus:
        response = await self._lease("LeaseGrant", pb.LeaseGrantRequest(TTL=ttl, ID=id))
        return LeaseStatus(response.ID, response.TTL, response.TTL)

    async def lease_revoke(self, id: int) -> int:
        return int((await self._lease("LeaseRevoke", pb.LeaseRevokeRequest(ID=id))).header.revision)

    async def lease_keep_alive(self, id: int) -> LeaseStatus:
        """Renew a lease; times in seconds.

        Raises ``LeaseNotFound`` if it has expired, ``Unavailable`` if no member answers.
        """
        for _ in self.channels.endpoints:
            at, call = self.channels.stream(self.channels.method("Lease", "LeaseKeepAlive"))
            try:
                async with asyncio.timeout(self.channels.timeout):
                    await call.write(pb.LeaseKeepAliveRequest(ID=id))
                    response = await call.read()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                self.channels.leave(at)
                continue
            finally:
                call.cancel()
            if response is grpc.aio.EOF:
                self.channels.leave(at)
            elif response.TTL <= 0:
                raise LeaseNotFound
            else:
                return LeaseStatus(response.ID, response.TTL, response.TTL)
        raise Unavailable("no etcd member answers")

    async def lease_status(self, id: int, *, keys: bool = False) -> LeaseStatus:
        response = await self._lease("LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=id, keys=keys), repeatable=True)
        if response.TTL < 0:
            return LeaseStatus(id, -1, 0)
        return LeaseStatus(response.ID, response.TTL, response.grantedTTL, sorted(response.keys))

    async def leases(self) -> Sequence[int]:
        response = await self._lease("LeaseLeases", pb.LeaseLeasesRequest(), repeatable=True)
        return sorted(lease.ID for lease in response.leases)

    async def _lease(self, name: str, request: Any, *, repeatable: bool = False) -> Any:
        return await self.channels.unary(self.channels.method("Lease", name), request, repeatable=repeatable)

    async def exact_progress(self) -> bool:
        """Whether a progress notification that was requested comes after all events before it; older etcds race."""
        if self._exact_progress is None:
            method = self.channels.method("Maintenance", "Status")
            response = await self.channels.unary(method, pb.StatusRequest(), repeatable=True)
            numbers = [int(part) for part in response.version.split("-")[0].split(".")]
            self._exact_progress = numbers >= [3, 5, 8] or [3, 4, 25] <= numbers < [3, 5]
        return self._exact_progress

    # Health and end

    async def healthy(self) -> None:
        await self.current_revision()
        method = self.channels.method("Maintenance", "Alarm")
        response = await self.channels.unary(method, pb.AlarmRequest(), repeatable=True)
        for alarm in response.alarms:
            raise NoSpace if alarm.alarm == NO_SPACE else StoreError("etcdserver: corrupt cluster")

    async def close(self) -> None:
        for watch in list(self._watches):
            await watch.close()
        await self._runner.close()
        await self.channels.close()


class EtcdWatch:
    """One watch, on its own stream, which is opened again, where it left off, when it breaks or falls silent.

    gRPC ends a whole stream if one read or write of it is cancelled. So only tasks of the watch touch the stream:
    ``_follow`` reads it, ``_write_requests`` writes to it; readers and those that want progress leave word and wait.
    """

    def __init__(
        self, *, backend: EtcdBackend, request: WatchRequest, start: int, clock: Clock, runner: Runner
    ) -> None:
        self._backend = backend
        self._request = request
        self._clock = clock
        self._runner = runner
        self._next = start
        """The first revision of which not all events have been delivered."""
        self._delivered = 0
        """How many events of that revision have been delivered, as fragments."""
        self._skip = 0
        self._exact_progress = False
        self._progress_wanted = asyncio.Event()
        self._heard = asyncio.Event()
        self._batches: deque[WatchBatch] = deque()
        self._changed = asyncio.Event()
        """A batch was added or taken, or the watch ended."""
        self._ended = False
        self._failure: StoreError | None = None
        self._owner = runner.spawn(self._follow(), "watch")

    # The reader's side

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        while not self._batches:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._changed.set()
        return self._batches.popleft()

    async def request_progress(self) -> None:
        self._progress_wanted.set()

    async def close(self) -> None:
        self._batches.clear()
        self._end()
        self._owner.cancel()
        self._backend.forget(self)

    def _end(self, failure: StoreError | None = None) -> None:
        self._ended = True
        self._failure = failure
        self._changed.set()

    # The owner's side

    async def _follow(self) -> None:
        """Read one stream after another, until the watch is closed or refused."""
        delays = backoff(0.05, 2, 2.0)
        try:
            while not self._ended:
                try:
                    await self._read_stream()
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                    log.debug("a stream of a watch broke: %s", error)
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    log.debug("a stream of a watch was given up, as it was silent")
                if self._heard.is_set():
                    delays = backoff(0.05, 2, 2.0)
                await self._clock.sleep(next(delays))
        except StoreError as error:
            self._end(error)
        except Exception as error:
            log.exception("a watch failed")
            self._end(StoreError(f"the watch failed: {error}"))

    async def _read_stream(self) -> None:
        """Open a stream and queue what it brings, until it ends. Raises ``StoreError`` and gRPC's errors."""
        channels = self._backend.channels
        at, call = channels.stream(channels.method("Watch", "Watch"))
        writer: asyncio.Task[None] | None = None
        try:
            self._heard.clear()
            self._skip = self._delivered
            await call.write(pb.WatchRequest(create_request=self._create_request()))
            writer = self._runner.spawn(self._write_requests(call), "watch requests")
            while (response := await call.read()) is not grpc.aio.EOF:
                self._heard.set()
                if response.canceled:
                    self._refused(response)
                    return
                batch = None if response.created else self._batch(response)
                if batch is not None:
                    await self._queue(batch)
        finally:
            if writer is not None:
                writer.cancel()
            call.cancel()
            channels.leave(at)

    def _create_request(self) -> Any:
        request = self._request
        return pb.WatchCreateRequest(
            key=request.key,
            range_end=request.end or b"",
            start_revision=self._next,
            progress_notify=request.progress_notify,
            filters=[number for number, on in enumerate((request.no_put, request.no_delete)) if on],
            prev_kv=request.prev_kv,
            fragment=request.fragment,
        )

    async def _write_requests(self, call: Any) -> None:
        """Ask for progress whenever somebody wants it; give the stream up if nothing at all arrives then."""
        while True:
            await self._progress_wanted.wait()
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    self._exact_progress = await self._backend.exact_progress()
                    self._heard.clear()
                    self._progress_wanted.clear()
                    await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
                    await self._heard.wait()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, StoreError, TimeoutError):
                self._progress_wanted.set()  # to be asked again, on the next stream
                call.cancel()
                return

    async def _queue(self, batch: WatchBatch) -> None:
        """Keep a batch for the reader; wait while it has many left to read."""
        self._batches.append(batch)
        self._changed.set()
        while len(self._batches) >= WAITING_BATCHES:
            self._changed.clear()
            await self._changed.wait()

    @staticmethod
    def _refused(response: Any) -> None:
        """The member ended the watch. Raises unless another member may take it."""
        if response.compact_revision or response.cancel_reason == str(Compacted(0)):
            raise Compacted(response.compact_revision)
        if response.created:
            raise StoreError(response.cancel_reason or "the watch was refused")

    def _batch(self, response: Any) -> WatchBatch | None:
        """The events of a response that were not delivered yet; None if none is new."""
        revision = response.header.revision
        if not response.events:
            if response.watch_id == NO_WATCH and not self._exact_progress:
                return WatchBatch(min(revision, self._next - 1))
            if revision < self._next - 1:
                return None  # from a member that is behind
            self._advance(revision + 1)
            return WatchBatch(revision)
        events = [read_event(event) for event in response.events]
        if self._skip:
            repeated = sum(event.kv.mod_revision == self._next for event in events[: self._skip])
            self._skip -= repeated
            events = events[repeated:]
            if not events:
                return None
        last = events[-1].kv.mod_revision
        if response.fragment:
            in_last = sum(event.kv.mod_revision == last for event in events)
            self._delivered = in_last + (self._delivered if last == self._next else 0)
            self._next = last
        else:
            self._advance(last + 1)
        return WatchBatch(revision, events, response.fragment)

    def _advance(self, revision: int) -> None:
        self._next = max(self._next, revision)
        self._delivered = self._skip = 0
