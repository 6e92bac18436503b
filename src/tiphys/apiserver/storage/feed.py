"""``Feed``: the one watch over the whole store from which every cache of this server lives.

Its task is supervised, and a listener that fails reads its keys again while the others continue. A watch that
ends is opened again at the revision that it had reached; only if that is compacted have changes been missed.

Because it sees every change, whoever made it, its revision is how far all caches are. A read that must see every
write that returned before asks the store for its revision and waits until the feed has passed it; with the embedded
store that is a comparison of two integers, and several servers on one store need nothing else to agree.

Source: KEP-2340
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Sequence
from typing import Protocol

from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import contain
from tiphys.store.backend import Backend, Compacted, Event, StoreError, Watch, WatchBatch, WatchRequest

log = logging.getLogger(__name__)

EVERYTHING = b"\0"
_RETRY_SECONDS = 1.0
_FRESH_SECONDS = 3.0
_FEW_WAITING = 64


class Listener(Protocol):
    """A cache of the keys under one prefix."""

    def changed(self, events: Sequence[Event], revision: int) -> None:
        """Changes of its keys, all of revisions up to ``revision``, in order."""
        ...

    def lost(self) -> None:
        """Changes have been missed: what it holds may be wrong from now on."""
        ...


class TooLargeRevision(Exception):
    """The feed did not reach the revision in time. ``current`` is where it is."""

    def __init__(self, requested: int, current: int) -> None:
        super().__init__(f"Too large resource version: {requested}, current: {current}")
        self.requested = requested
        self.current = current


class Feed:
    """``root`` is the key under which all objects are, without a slash at its end."""

    def __init__(self, backend: Backend, clock: Clock, root: str = "/registry") -> None:
        self.backend = backend
        self._within = len(root.encode()) + 1
        self.revision = 0
        self.oldest = 0
        """The oldest revision that can still be read, as far as this server knows."""
        self._clock = clock
        self._listeners: dict[bytes, Listener] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap of those who wait for a revision; one who has given up is done, and stays until it is swept out."""
        self._given_up = 0
        self._numbers = itertools.count()
        self._watch: Watch | None = None

    def listen(self, prefix: str, listener: Listener) -> None:
        """Send the changes of all keys under ``prefix`` (two or three segments, ending in a slash)."""
        self._listeners[prefix.encode()] = listener

    def ignore(self, prefix: str) -> None:
        self._listeners.pop(prefix.encode(), None)

    def forget(self, revision: int) -> None:
        """The history before ``revision`` has been compacted."""
        self.oldest = max(self.oldest, revision)

    async def open(self) -> None:
        """Start watching at the store's revision. Raises ``StoreError`` if the store cannot be reached."""
        revision = await self.backend.current_revision()
        await self._watch_from(revision)
        self._advance(revision)

    async def run(self) -> None:
        """Follow the store for ever; after a failure continue from the revision that was reached."""
        while True:
            try:
                await self._follow()
                log.warning("the watch of the store ended")
            except Compacted:
                log.warning("the watch of the store fell behind a compaction: every cache is read again")
                await self._start_over()
            except StoreError as error:
                log.warning("the watch of the store ended: %s", error)
            await self._clock.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        if self._watch is None:
            if await self.backend.current_revision() < self.revision:  # a backup was restored
                await self._start_over()
            await self._watch_from(self.revision)
        watch = self._watch
        assert watch is not None
        try:
            async for batch in watch:
                self._deliver(batch)
        finally:
            self._watch = None
            await watch.close()

    async def _watch_from(self, revision: int) -> None:
        self._watch = await self.backend.watch(
            WatchRequest(EVERYTHING, EVERYTHING, start_revision=revision + 1, progress_notify=True)
        )

    async def _start_over(self) -> None:
        """Changes have been missed, or taken back: continue from the store's revision, every cache reading its keys."""
        self.revision = await self.backend.current_revision()
        for listener in list(self._listeners.values()):
            contain("a cache that lost its place", listener.lost)

    def _deliver(self, batch: WatchBatch) -> None:
        events = batch.events
        if len(events) == 1:
            listener = self._listener_of(events[0].kv.key)
            if listener is not None:
                self._give(listener, events, events[0].kv.mod_revision)
        else:
            for listener, changes in self._by_listener(events):
                self._give(listener, changes, batch.revision)
        if not batch.fragment:
            self._advance(batch.revision)

    @staticmethod
    def _give(listener: Listener, events: Sequence[Event], revision: int) -> None:
        """A listener that fails may have taken half of the changes: it starts again, and the others continue."""
        if not contain("following changes", listener.changed, events, revision):
            contain("a cache that failed", listener.lost)

    def reread(self, key: bytes) -> None:
        """What was delivered of this key could not be read then: its cache starts again."""
        if (listener := self._listener_of(key)) is not None:
            contain("a cache of values that came late", listener.lost)

    def _by_listener(self, events: Sequence[Event]) -> list[tuple[Listener, list[Event]]]:
        by_listener: dict[int, tuple[Listener, list[Event]]] = {}
        for event in events:
            listener = self._listener_of(event.kv.key)
            if listener is not None:
                by_listener.setdefault(id(listener), (listener, []))[1].append(event)
        return list(by_listener.values())

    def _listener_of(self, key: bytes) -> Listener | None:
        """Keys are ``ROOT/RESOURCE/…`` or ``ROOT/GROUP/RESOURCE/…``."""
        end = key.find(b"/", self._within) + 1
        listener = self._listeners.get(key[:end])
        if listener is None:
            listener = self._listeners.get(key[: key.find(b"/", end) + 1])
        return listener

    def _advance(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.revision:
            _, _, future = heapq.heappop(waiting)
            if not future.done():
                future.set_result(None)
            else:
                self._given_up -= 1

    async def fresh(self) -> int:
        """Wait until the caches show every write that returned before the call; gives the store's revision then."""
        revision = await self.backend.current_revision()
        if revision > self.revision:
            await self.reached(revision)
        return revision

    async def reached(self, revision: int, timeout: float = _FRESH_SECONDS) -> None:
        """Wait until the caches show ``revision``. Raises ``TooLargeRevision`` after ``timeout`` seconds."""
        if revision <= self.revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (revision, next(self._numbers), future))
        try:
            async with asyncio.timeout(timeout):
                if self._watch is not None:
                    await self._watch.request_progress()
                await future
        except TimeoutError:
            raise TooLargeRevision(revision, self.revision) from None
        finally:
            self._give_up(future)

    def _give_up(self, future: asyncio.Future[None]) -> None:
        """Anyone who waited has gone. If it still stands in the heap it is swept out with others, in their turn."""
        if future.done() and not future.cancelled():
            return
        future.cancel()
        self._given_up += 1
        if len(self._waiting) > _FEW_WAITING and self._given_up > len(self._waiting) // 2:
            self._waiting = [row for row in self._waiting if not row[2].done()]
            heapq.heapify(self._waiting)
            self._given_up = 0

    async def check(self) -> None:
        """Whether reads are served: the caches reach what the store has now. Raises ``TooLargeRevision``,
        ``StoreError``."""
        await self.fresh()
