"""``Cacher``: all objects of one resource in memory, and their recent changes.

It is started by the first request for its resource: what nobody touches costs nothing. It lists its keys at one
revision and from then on follows the feed. Reads come from it, and watches are served from its window of recent
changes; a revision older than the window is answered with 410, as upstream does.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

from tiphys.apiserver.storage.changes import Change
from tiphys.apiserver.storage.entry import Codec, Draft, Entry
from tiphys.apiserver.storage.feed import Feed
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.storage.watchers import Watchers
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner
from tiphys.store.backend import Event, EventType, Range, StoreError, prefix_end

WINDOW = 2000
"""Changes that are kept for watches that start in the past."""
_PAGE = 1000
_RETRY_SECONDS = 0.5


class State(Enum):
    COLD = "cold"
    LOADING = "loading"
    READY = "ready"


class Cacher:
    """``generation`` grows with every change: who derives something from the objects compares it to derive anew."""

    def __init__(self, feed: Feed, codec: Codec, prefix: str, runner: Runner, clock: Clock) -> None:
        self.feed = feed
        self.codec = codec
        self.prefix = prefix
        self.watchers = Watchers()
        self.generation = 0
        self.on_change: Callable[[], None] | None = None
        """Called after every change, for who cannot wait until somebody asks."""
        self.oldest = 0
        self.changed_at = 0
        self._state = State.COLD
        self._runner = runner
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._keys: list[str] = []
        self._window: deque[Change] = deque()
        self._drafts: dict[str, Draft] = {}
        self._missed: list[Event] = []
        self._loading: asyncio.Task[None] | None = None

    # -- life

    async def ready(self) -> None:
        """Wait until the cache shows the store; starts it where it is cold."""
        if self._state is State.READY:
            return
        if self._loading is None:
            self._loading = self._runner.spawn(self._load(), f"cache {self.prefix}")
        await asyncio.shield(self._loading)

    def lost(self) -> None:
        """The feed has a gap: read everything anew. Open watches end, as they cannot be continued."""
        if self._state is State.COLD:
            return
        self._state = State.COLD
        self.watchers.cut_off_all()
        if self._loading is not None:
            self._loading.cancel()
        self._loading = self._runner.spawn(self._load(), f"cache {self.prefix}")

    async def _load(self) -> None:
        self._state = State.LOADING
        self._missed = []
        self.feed.listen(self.prefix, self)
        while True:
            try:
                entries, revision = await self._read_all()
                break
            except StoreError:
                await self._clock.sleep(_RETRY_SECONDS)
        if revision > self.feed.revision:
            await self.feed.reached(revision, timeout=60)
        self._entries = {entry.key: entry for entry in entries}
        self._keys = sorted(self._entries)
        self._window.clear()
        self.oldest = self.changed_at = revision
        self.generation += 1
        self._state = State.READY
        self._loading = None
        self.changed([event for event in self._missed if event.kv.mod_revision > revision], self.feed.revision)
        self._missed = []

    async def _read_all(self) -> tuple[list[Entry], int]:
        entries: list[Entry] = []
        start, end, revision = self.prefix.encode(), prefix_end(self.prefix.encode()), 0
        while True:
            page = await self.feed.backend.range(Range(start, end, revision=revision, limit=_PAGE))
            revision = revision or page.revision
            entries += [self.codec.entry(kv.key.decode(), kv.value, kv.mod_revision, None, kv.create_revision, kv.lease)
                        for kv in page.kvs]  # fmt: skip
            if not page.more:
                return entries, revision
            start = page.kvs[-1].key + b"\0"

    # -- changes

    def expect(self, key: str, draft: Draft) -> None:
        """A write of this process is on its way; what was read from its object need not be read from it again."""
        self._drafts[key] = draft

    def forget(self, key: str) -> None:
        """The write failed."""
        self._drafts.pop(key, None)

    def changed(self, events: Sequence[Event], revision: int) -> None:
        if self._state is not State.READY:
            self._missed.extend(events)
            return
        changes = [change for event in events if (change := self._apply(event)) is not None]
        if not changes:
            return
        self.generation += 1
        self.changed_at = changes[-1].revision
        self._window.extend(changes)
        while len(self._window) > WINDOW:
            self.oldest = self._window.popleft().revision
        self.watchers.tell(changes)
        if self.on_change is not None:
            self.on_change()

    def _apply(self, event: Event) -> Change | None:
        kv = event.kv
        key = kv.key.decode()
        previous = self._entries.get(key)
        if event.type is EventType.DELETE:
            if previous is None:
                return None
            del self._entries[key]
            del self._keys[bisect_left(self._keys, key)]
            return Change(kv.mod_revision, None, previous)
        draft = self._drafts.get(key)
        if draft is not None and draft.value == kv.value:
            del self._drafts[key]
        else:
            draft = None
        entry = self.codec.entry(key, kv.value, kv.mod_revision, draft, kv.create_revision, kv.lease)
        if previous is None:
            insort(self._keys, key)
        self._entries[key] = entry
        return Change(kv.mod_revision, entry, previous)

    # -- reads; all of them after ``ready``

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)

    def under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """The entries whose key starts with ``prefix``, in the order of their keys, from key ``after`` on."""
        keys, entries = self._keys, self._entries
        if prefix == self.prefix and not after:
            return iter([entries[key] for key in keys])
        start = bisect_left(keys, max(prefix, after))
        end = bisect_left(keys, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        return iter([entries[key] for key in keys[start:end]])

    def select(self, selection: Selection, after: str = "") -> list[Entry]:
        """The entries that match, in the order of their keys."""
        found = self.under(selection.prefix, after)
        if selection.is_everything:
            return list(found)
        return [entry for entry in found if selection.matches(entry)]

    def shows(self, revision: int) -> bool:
        """Whether the objects are now as they were at ``revision``, which is not compacted."""
        return max(self.changed_at, self.feed.oldest) <= revision <= self.feed.revision

    def since(self, revision: int) -> list[Change] | None:
        """The changes after ``revision``; None where some of them are no longer known."""
        if revision < self.oldest:
            return None
        if not self._window or revision >= self._window[-1].revision:
            return []
        return [change for change in self._window if change.revision > revision]
