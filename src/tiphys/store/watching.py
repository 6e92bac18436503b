"""Watches over the core: which watch gets which change, and how a reader that is too slow catches up.

Watches with the same span and filters form a ``SpanGroup``; a change looks its groups up by key and every watch of a
group is given the same batch. A watch is in one of three states:

    LIVE    every change up to the store's revision is in its buffer or has been read
    BEHIND  it reads the store's history from ``_next`` on: at the start, or as its buffer was full; then LIVE
    CLOSED  its iteration ends

Source: https://etcd.io/docs/v3.6/learning/api/#watch-api
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Sequence
from enum import Enum

from tiphys.runtime.tasks import contain
from tiphys.store.backend import Compacted, Event, EventType, KeyValue, WatchBatch, WatchRequest
from tiphys.store.mvcc import Core, RowChange, revision_of

log = logging.getLogger(__name__)

BUFFERED_EVENTS = 10_000
"""How many events a watch may be behind before it reads them from the store instead."""
CATCH_UP_EVENTS = 500
FRAGMENT_BYTES = 1536 * 1024

Spec = tuple[bytes, bytes | None, bool, bool, bool]


class WatchState(Enum):
    LIVE = 1
    BEHIND = 2
    CLOSED = 3


class SpanGroup:
    """The watches of one span with the same filters, and the events of their next batch."""

    __slots__ = ("events", "no_delete", "no_put", "prev_kv", "spec", "watches")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        _, _, self.prev_kv, self.no_put, self.no_delete = spec
        self.watches: set[StoreWatch] = set()
        self.events: list[Event] = []


class Spans:
    """The groups by the keys that they watch. A table of segments, made again after a span came or went."""

    def __init__(self) -> None:
        self._exact: dict[bytes, list[SpanGroup]] = {}
        self._ranges: set[SpanGroup] = set()
        self._bounds: list[bytes] | None = []
        self._cover: list[list[SpanGroup]] = [[]]

    def add(self, group: SpanGroup) -> None:
        if group.spec[1] is None:
            self._exact.setdefault(group.spec[0], []).append(group)
        else:
            self._ranges.add(group)
            self._bounds = None

    def remove(self, group: SpanGroup) -> None:
        key, end = group.spec[:2]
        if end is None:
            self._exact[key].remove(group)
            if not self._exact[key]:
                del self._exact[key]
        else:
            self._ranges.discard(group)
            self._bounds = None

    def of(self, key: bytes) -> Sequence[SpanGroup]:
        """The groups that watch ``key``."""
        bounds = self._bounds
        if bounds is None:
            bounds = self._build()
        covering = self._cover[bisect_right(bounds, key)]
        exact = self._exact.get(key)
        return covering + exact if exact else covering

    def _build(self) -> list[bytes]:
        edges = {edge for group in self._ranges for edge in group.spec[:2] if edge is not None and edge != b"\0"}
        bounds = self._bounds = sorted(edges)
        self._cover = [[] for _ in range(len(bounds) + 1)]
        for group in self._ranges:
            key, end = group.spec[:2]
            assert end is not None
            first = bisect_right(bounds, key)
            last = len(self._cover) if end == b"\0" else bisect_left(bounds, end) + 1
            for cover in self._cover[first:last]:
                cover.append(group)
        return bounds


class WatchHub:
    """All watches of one store. ``revision`` is the newest revision that has been published."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.revision = core.revision
        self.watches: set[StoreWatch] = set()
        self._groups: dict[Spec, SpanGroup] = {}
        self._spans = Spans()

    def open(self, request: WatchRequest) -> StoreWatch:
        watch = StoreWatch(self, request)
        spec = (request.key, request.end, request.prev_kv, request.no_put, request.no_delete)
        group = self._groups.get(spec)
        if group is None:
            group = self._groups[spec] = SpanGroup(spec)
            self._spans.add(group)
        group.watches.add(watch)
        self.watches.add(watch)
        return watch

    def forget(self, watch: StoreWatch) -> None:
        self.watches.discard(watch)
        request = watch.request
        spec = (request.key, request.end, request.prev_kv, request.no_put, request.no_delete)
        group = self._groups[spec]
        group.watches.discard(watch)
        if not group.watches:
            del self._groups[spec]
            self._spans.remove(group)

    def publish(self, changes: Sequence[RowChange], revision: int) -> None:
        """Send durable changes to the watches; ``revision`` is the newest of them."""
        self.revision = revision
        if not self._groups:
            return
        try:
            touched = self._gather(changes)
        except Exception:
            log.exception("changes up to revision %d cannot be shown at once; watches read them again", revision)
            for group in self._groups.values():
                group.events = []
            for watch in self.watches:
                watch.fall_behind()
            return
        for group in touched:
            batch = WatchBatch(revision, group.events)
            group.events = []
            for watch in group.watches:
                if not contain("offering changes to a watch", watch.offer, batch):
                    watch.fall_behind()

    def _gather(self, changes: Sequence[RowChange]) -> list[SpanGroup]:
        """Put each change into the groups that watch its key; gives those groups."""
        touched: list[SpanGroup] = []
        groups_of = self._spans.of
        for change in changes:
            plain: Event | None = None
            full: Event | None = None
            for group in groups_of(change.kv.key):
                if group.no_delete if change.row & 1 else group.no_put:
                    continue
                if group.prev_kv:
                    event = full = full or change.event(self._before(change))
                else:
                    event = plain = plain or change.event()
                if not group.events:
                    touched.append(group)
                group.events.append(event)
        return touched

    def _before(self, change: RowChange) -> KeyValue | None:
        row = change.previous_row
        return self.core.read((row,))[0] if row else None

    def close(self) -> None:
        for watch in list(self.watches):
            watch.end()


class StoreWatch:
    """One open watch (``backend.Watch``), for one reader."""

    def __init__(self, hub: WatchHub, request: WatchRequest) -> None:
        self.request = request
        self._hub = hub
        self._next = request.start_revision or hub.revision + 1
        """The first revision that has not been put into the buffer."""
        self._state = WatchState.LIVE if self._next > hub.revision else WatchState.BEHIND
        self._buffer: deque[WatchBatch] = deque()
        self._buffered = 0
        self._backlog: deque[tuple[int, int]] = deque()
        self._backlog_end = 0
        self._progress_wanted = False
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[WatchBatch]:
        return self

    async def __anext__(self) -> WatchBatch:
        while True:
            if self._buffer:
                return self._take()
            if self._state is WatchState.CLOSED:
                raise StopAsyncIteration
            if self._state is WatchState.BEHIND:
                self._read_history()
            elif self._progress_wanted:
                self._progress_wanted = False
                return WatchBatch(self._hub.revision)
            else:
                await self._wait()

    def ready(self) -> bool:
        """Whether the next batch is there without waiting."""
        return bool(self._buffer) or self._state is not WatchState.LIVE or self._progress_wanted

    async def request_progress(self) -> None:
        self.want_progress()

    def want_progress(self) -> None:
        self._progress_wanted = True
        self._wake()

    async def close(self) -> None:
        self.end()

    def end(self) -> None:
        if self._state is not WatchState.CLOSED:
            self._state = WatchState.CLOSED
            self._buffer.clear()
            self._hub.forget(self)
            self._wake()

    def offer(self, batch: WatchBatch) -> None:
        """Take a batch of new events, or leave them to the history."""
        if self._state is not WatchState.LIVE or self._next > batch.revision:
            return
        events = batch.events
        if self._next > events[0].kv.mod_revision:
            events = [event for event in events if event.kv.mod_revision >= self._next]
            batch = WatchBatch(batch.revision, events)
        if self._buffered + len(events) > BUFFERED_EVENTS and self._buffer:
            self._state = WatchState.BEHIND
            self._next = events[0].kv.mod_revision
            return
        self._buffer.append(batch)
        self._buffered += len(events)
        self._next = batch.revision + 1
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def fall_behind(self) -> None:
        """What it has not been offered it reads from the history."""
        if self._state is WatchState.LIVE:
            self._state = WatchState.BEHIND
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("a watch can have one reader only")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _take(self) -> WatchBatch:
        batch = self._buffer.popleft()
        self._buffered -= len(batch.events)
        if self.request.fragment and not batch.fragment and len(batch.events) > 1:
            pieces = fragments(batch)
            batch = pieces.pop(0)
            self._buffer.extendleft(reversed(pieces))
            self._buffered += sum(len(piece.events) for piece in pieces)
        return batch

    # Catching up

    def _read_history(self) -> None:
        """Put the next piece of the history into the buffer; LIVE if none is left."""
        core = self._hub.core
        if not self._backlog:
            self._backlog_end = self._hub.revision
            self._backlog = deque(core.history(self.request.key, self.request.end, self._next, self._backlog_end))
            if not self._backlog:
                self._next = max(self._next, self._backlog_end + 1)
                self._state = WatchState.LIVE
                return
        elif revision_of(self._backlog[0][0]) < core.compacted:
            raise Compacted(core.compacted)
        piece = self._next_piece()
        revision = self._backlog_end if not self._backlog else revision_of(piece[-1][0])
        self._next = revision + 1
        events = self._events(piece)
        if events:
            self._buffer.append(WatchBatch(self._backlog_end, events))
            self._buffered += len(events)

    def _next_piece(self) -> list[tuple[int, int]]:
        """Some hundreds of rows, to the end of a revision."""
        backlog = self._backlog
        piece: list[tuple[int, int]] = []
        while backlog and (len(piece) < CATCH_UP_EVENTS or revision_of(backlog[0][0]) == revision_of(piece[-1][0])):
            piece.append(backlog.popleft())
        return piece

    def _events(self, piece: Sequence[tuple[int, int]]) -> list[Event]:
        request, core = self.request, self._hub.core
        wanted = [(row, before) for row, before in piece if not (request.no_delete if row & 1 else request.no_put)]
        kvs = core.read([row for row, _ in wanted])
        befores: dict[int, int] = {}
        if request.prev_kv:  # what a change at the compacted revision replaced may be gone
            befores = {row: before for row, before in wanted if before and revision_of(row) > core.compacted}
        previous = dict(zip(befores, core.read(list(befores.values())), strict=True))
        return [
            Event(EventType.DELETE if row & 1 else EventType.PUT, kv, previous.get(row))
            for (row, _), kv in zip(wanted, kvs, strict=True)
        ]


def fragments(batch: WatchBatch, limit: int = FRAGMENT_BYTES) -> list[WatchBatch]:
    """The batch in pieces of about ``limit`` bytes at most; a single larger event is its own piece."""
    pieces: list[list[Event]] = [[]]
    size = 0
    for event in batch.events:
        length = 64 + len(event.kv.key) + len(event.kv.value)
        if event.prev_kv is not None:
            length += 64 + len(event.prev_kv.key) + len(event.prev_kv.value)
        if pieces[-1] and size + length > limit:
            pieces.append([])
            size = 0
        pieces[-1].append(event)
        size += length
    last = len(pieces) - 1
    return [WatchBatch(batch.revision, events, fragment=at < last) for at, events in enumerate(pieces)]
