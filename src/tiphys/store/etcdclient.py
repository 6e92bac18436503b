"""``Backend`` over etcd's gRPC API: real etcd, of one member or many.

Source: https://etcd.io/docs/v3.6/learning/client-design/
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio

from tiphys.runtime.clock import Clock, SystemClock, backoff
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

NO_SPACE = 1
NO_WATCH = -1


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

    async def compact(self, revision: int, physical: bool = False) -> int:
        request = pb.CompactionRequest(revision=revision, physical=physical)
        response = await self.channels.unary(self.channels.method("KV", "Compact"), request, repeatable=False)
        return int(response.header.revision)

    # Watching

    async def watch(self, request: WatchRequest) -> EtcdWatch:
        start = request.start_revision or await self.current_revision() + 1
        watch = EtcdWatch(self, request, start, self._clock)
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

    async def lease_status(self, id: int, keys: bool = False) -> LeaseStatus:
        response = await self._lease("LeaseTimeToLive", pb.LeaseTimeToLiveRequest(ID=id, keys=keys), repeatable=True)
        if response.TTL < 0:
            return LeaseStatus(id, -1, 0)
        return LeaseStatus(response.ID, response.TTL, response.grantedTTL, sorted(response.keys))

    async def leases(self) -> Sequence[int]:
        response = await self._lease("LeaseLeases", pb.LeaseLeasesRequest(), repeatable=True)
        return sorted(lease.ID for lease in response.leases)

    async def _lease(self, name: str, request: Any, repeatable: bool = False) -> Any:
        return await self.channels.unary(self.channels.method("Lease", name), request, repeatable=repeatable)

    async def exact_progress(self) -> bool:
        """Whether a progress notification that was asked for comes after all events before it; older etcds race."""
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
        await self.channels.close()


class EtcdWatch:
    """One watch, on a stream of its own, which is opened again, where it left off, when it breaks."""

    def __init__(self, backend: EtcdBackend, request: WatchRequest, start: int, clock: Clock) -> None:
        self._backend = backend
        self._request = request
        self._clock = clock
        self._next = start
        """The first revision of which not all events have been delivered."""
        self._delivered = 0
        """How many events of that revision have been delivered, as fragments."""
        self._skip = 0
        self._at = 0
        self._call: Any = None
        self._progress_wanted = False
        self._exact_progress = False
        self._reading: asyncio.Task[Any] | None = None
        self._batches: deque[WatchBatch] = deque()
        self._closed = False

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        delays = backoff(0.05, 2, 2.0)
        while not self._closed:
            try:
                batch = await self._next_batch()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                self._break()
                if not self._closed:
                    await self._clock.sleep(next(delays))
                continue
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._closed or (task is not None and task.cancelling()):
                    raise
                break  # not this task was cancelled, but the call, by close()
            if batch is not None:
                return batch
        raise StopAsyncIteration

    async def _open(self) -> None:
        channels, request = self._backend.channels, self._request
        self._at, call = channels.stream(channels.method("Watch", "Watch"))
        self._call = call
        self._skip = self._delivered
        filters = [number for number, on in enumerate((request.no_put, request.no_delete)) if on]
        create = pb.WatchCreateRequest(
            key=request.key,
            range_end=request.end or b"",
            start_revision=self._next,
            progress_notify=request.progress_notify,
            filters=filters,
            prev_kv=request.prev_kv,
            fragment=request.fragment,
        )
        await call.write(pb.WatchRequest(create_request=create))
        if self._progress_wanted:
            await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    async def _next_batch(self) -> WatchBatch | None:
        """What the next message holds for the reader. Raises ``Compacted``."""
        response = await self._read()
        if response is grpc.aio.EOF:
            self._break()
            return None
        if response.canceled:
            if response.compact_revision or response.cancel_reason == str(Compacted(0)):
                self._break()
                raise Compacted(response.compact_revision)
            if response.created:
                self._break()
                raise StoreError(response.cancel_reason or "the watch was refused")
            self._break()
            return None
        if response.created:
            return None
        return self._batch(response)

    async def _read(self) -> Any:
        """The next message. A reader that is cancelled must not end the stream, so fetching is a task of its own."""
        reading = self._reading = self._reading or asyncio.ensure_future(self._fetch())
        try:
            response = await asyncio.shield(reading)
        except asyncio.CancelledError:
            raise  # what comes, or has come, is for the next reader
        except BaseException:
            self._reading = None
            raise
        self._reading = None
        return response

    async def _fetch(self) -> Any:
        if self._call is None:
            await self._open()
        return await self._call.read()

    def _batch(self, response: Any) -> WatchBatch | None:
        revision = response.header.revision
        if not response.events:
            if response.watch_id == NO_WATCH:
                self._progress_wanted = False
                if not self._exact_progress:
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

    def _break(self) -> None:
        """Give the stream up; the next one goes to another member."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._backend.channels.leave(self._at)
        if self._reading is not None:
            if self._reading.done() and not self._reading.cancelled():
                self._reading.exception()  # nobody else will ask for it
            self._reading.cancel()
            self._reading = None

    async def request_progress(self) -> None:
        self._exact_progress = await self._backend.exact_progress()
        self._progress_wanted = True
        if self._call is not None:
            try:
                await self._call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream is broken: asked again on the next one

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._break()
            self._backend.forget(self)
