"""``Feed``: the one watch over the whole store from which every cache of this server lives.

Because it sees every change, whoever made it, its revision tells how far all caches are. A read that must see every
write that returned before asks the store for its revision and waits until the feed has passed it; with the embedded
store that is a comparison of two integers, and several servers on one store need nothing else to agree.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tiphys.runtime.clock import Clock
from tiphys.store.backend import Backend, Event, StoreError, Watch, WatchBatch, WatchRequest

log = logging.getLogger(__name__)

EVERYTHING = b"\0"
_ROOT = len(b"/registry/")
_RETRY_SECONDS = 1.0


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
    def __init__(self, backend: Backend, clock: Clock) -> None:
        self.backend = backend
        self.revision = 0
        self.oldest = 0
        """The oldest revision that can still be read, as far as this server knows."""
        self._clock = clock
        self._listeners: dict[bytes, Listener] = {}
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
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
        """Start watching at the store's revision. Raises ``StoreError`` where the store cannot be reached."""
        revision = await self.backend.current_revision()
        self._watch = await self.backend.watch(
            WatchRequest(EVERYTHING, EVERYTHING, start_revision=revision + 1, progress_notify=True)
        )
        self._advance(revision)

    async def run(self) -> None:
        """Follow the store for ever; after a failure start again, and have every cache read its keys anew."""
        while True:
            try:
                await self._follow()
            except StoreError as error:
                log.warning("the watch of the store ended: %s", error)
            self._watch = None
            for listener in list(self._listeners.values()):
                listener.lost()
            await self._clock.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        if self._watch is None:
            await self.open()
        assert self._watch is not None
        try:
            async for batch in self._watch:
                self._deliver(batch)
        finally:
            await self._watch.close()

    def _deliver(self, batch: WatchBatch) -> None:
        events = batch.events
        if len(events) == 1:
            listener = self._listener_of(events[0].kv.key)
            if listener is not None:
                listener.changed(events, events[0].kv.mod_revision)
        else:
            for listener, changes in self._by_listener(events):
                listener.changed(changes, batch.revision)
        if not batch.fragment:
            self._advance(batch.revision)

    def _by_listener(self, events: Sequence[Event]) -> list[tuple[Listener, list[Event]]]:
        found: dict[int, tuple[Listener, list[Event]]] = {}
        for event in events:
            listener = self._listener_of(event.kv.key)
            if listener is not None:
                found.setdefault(id(listener), (listener, []))[1].append(event)
        return list(found.values())

    def _listener_of(self, key: bytes) -> Listener | None:
        """Keys are ``/registry/RESOURCE/…`` or ``/registry/GROUP/RESOURCE/…``."""
        end = key.find(b"/", _ROOT) + 1
        listener = self._listeners.get(key[:end])
        if listener is None:
            listener = self._listeners.get(key[: key.find(b"/", end) + 1])
        return listener

    def _advance(self, revision: int) -> None:
        if revision > self.revision:
            self.revision = revision
        waiting = self._waiting
        if waiting:
            self._waiting = deque()
            for wanted, future in waiting:
                if wanted > self.revision:
                    self._waiting.append((wanted, future))
                elif not future.done():
                    future.set_result(None)

    async def fresh(self) -> int:
        """Wait until the caches show every write that returned before the call; gives the store's revision then."""
        revision = await self.backend.current_revision()
        if revision > self.revision:
            await self.reached(revision)
        return revision

    async def reached(self, revision: int, timeout: float = 3.0) -> None:
        """Wait until the caches show ``revision``. Raises ``TooLargeRevision`` after ``timeout`` seconds."""
        if revision <= self.revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((revision, future))
        if self._watch is not None:
            await self._watch.request_progress()
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            raise TooLargeRevision(revision, self.revision) from None
