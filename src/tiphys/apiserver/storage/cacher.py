"""``Cacher``: all objects of one resource in memory, and their recent changes.

It is started by the first request for its resource: what nobody touches costs nothing. It lists its keys at one
revision and from then on follows the feed. Reads come from it, and watches are served from its window of recent
changes; a revision older than the window is answered with 410, as upstream does.

A value that cannot be read is that object's error alone: a read of it says so and names its key, lists leave it out
with a warning, and open watches keep showing what it was. If following changes fails, they are sent again.

Source: KEP-2340
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from json import JSONDecodeError

from tiphys.api import errors
from tiphys.apiserver.aside import uncollected
from tiphys.apiserver.storage.blocks import Entries
from tiphys.apiserver.storage.changes import EntryChange
from tiphys.apiserver.storage.entry import Codec, Draft, Entry
from tiphys.apiserver.storage.entrytable import EntryTable, Piece
from tiphys.apiserver.storage.feed import Feed
from tiphys.apiserver.storage.fields import indexed
from tiphys.apiserver.storage.foreign import CannotRead
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.storage.watchers import Watchers
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner, contain
from tiphys.store.backend import Event, EventType, KeyValue, Range, StoreError, prefix_end

log = logging.getLogger(__name__)

WINDOW = 2000
"""Changes that are kept for watches that start in the past."""
WINDOW_BYTES = 32 << 20
LEAST_WINDOW = 100
"""Of long objects fewer are kept: those that fit into so many bytes, and no fewer than upstream's least."""
MANY = 5000
"""From so many objects on a cache is kept from the collector of cycles."""
_PAGE = 500
_RETRY_SECONDS = 0.5
READY_SECONDS = 3.0
"""How long a request waits for a cache whose filling stands still; upstream's requests wait as long for theirs."""
CHEAP_SECONDS = 0.05
"""How long a request waits if the store itself can answer it at the cost of what it shows: one object, one page."""


class CacheState(Enum):
    COLD = "cold"
    LOADING = "loading"
    READY = "ready"


_READY, _DELETE = CacheState.READY, EventType.DELETE


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A key whose value cannot be read, at a revision. ``last`` is what watches have seen of it before."""

    key: str
    revision: int
    why: str
    last: Entry | None

    def error(self) -> errors.StatusError:
        """What a read of the object is answered."""
        return errors.internal(f'object "{self.key}" in the store cannot be read: {self.why}')


class NotReady(errors.StatusError):
    """The cache is being filled; whoever cannot read past it is answered 429, as by upstream."""

    def __init__(self) -> None:
        super().__init__(errors.too_many_requests("storage is (re)initializing", 1).status)


class Cacher:
    """``generation`` grows with every change: derived data is rebuilt when it differs."""

    def __init__(self, *, feed: Feed, codec: Codec, prefix: str, runner: Runner, clock: Clock) -> None:
        self.feed = feed
        self.codec = codec
        self.prefix = prefix
        self.watchers = Watchers()
        self.generation = 0
        self._followers: list[Callable[[], None]] = []
        self.oldest = 0
        self.changed_at = 0
        self._state = CacheState.COLD
        self._runner = runner
        self._clock = clock
        self._entries = self._table()
        self.unreadable: dict[str, Unreadable] = {}
        """By key."""
        self._window: deque[EntryChange] = deque()
        self._window_bytes = 0
        self._drafts: dict[str, Draft] = {}
        self._missed: list[Event] = []
        self._loading: asyncio.Task[None] | None = None
        self._pages = 0
        """How many pages have been read to fill it, ever."""

    # -- life

    @property
    def is_ready(self) -> bool:
        """Whether reads can be served without waiting."""
        return self._state is _READY

    async def ready(self, timeout: float | None = None) -> None:
        """Wait until the cache shows the store; starts it if it is cold.

        Raises ``NotReady`` after ``timeout`` seconds, and 500 if filling it failed; the next call tries again.
        """
        if self._state is _READY:
            return
        try:
            async with asyncio.timeout(timeout):
                while not self.is_ready:
                    await self._loaded()
        except TimeoutError:
            raise NotReady from None

    async def filled(self, stalled: float) -> None:
        """The same for who can use nothing else: wait for as long as the filling goes on.

        Raises ``NotReady`` after ``stalled`` seconds in which it stood still, and what ``ready`` raises.
        """
        while True:
            before = self._pages
            try:
                return await self.ready(stalled)
            except NotReady:
                if self._pages == before:
                    raise

    async def _loaded(self) -> None:
        """Wait for one attempt to fill the cache, which all share: neither end of the wait touches the other."""
        if self._loading is None:
            self._load_soon()
        loading = self._loading
        assert loading is not None
        await asyncio.wait((loading,))
        if not loading.cancelled() and (error := loading.exception()) is not None:
            raise errors.internal(f"the cache of {self.prefix} cannot be filled: {error}") from error

    def lost(self) -> None:
        """The feed has a gap: read everything again. Open watches end, as they cannot be continued."""
        if self._state is CacheState.COLD:
            return
        self._state = CacheState.COLD
        self.watchers.cut_off_all()
        if self._loading is not None:
            self._loading.cancel()
        self._load_soon()

    def _load_soon(self) -> None:
        self._state = CacheState.LOADING
        loading = self._loading = self._runner.spawn(self._load(), f"cache {self.prefix}")
        loading.add_done_callback(self._load_ended)

    def _load_ended(self, loading: asyncio.Task[None]) -> None:
        if loading is self._loading:
            self._loading = None
            if self._state is CacheState.LOADING:
                self._state = CacheState.COLD

    async def _load(self) -> None:
        self._missed = []
        self.feed.listen(self.prefix, self)
        while True:
            try:
                table, unreadable, revision = await self._read_all()
                break
            except StoreError as error:
                log.warning("the objects under %s could not be read: %s", self.prefix, error)
                await self._clock.sleep(_RETRY_SECONDS)
        if revision > self.feed.revision:
            await self.feed.reached(revision, timeout=60)
        self._entries, self.unreadable = table, unreadable
        self._window.clear()
        self._window_bytes = 0
        self.oldest = self.changed_at = revision
        self.generation += 1
        self._state = CacheState.READY
        missed, self._missed = self._missed, []
        self.changed([event for event in missed if event.kv.mod_revision > revision], self.feed.revision)
        self._notify()

    def _table(self) -> EntryTable:
        resource = self.codec.resource
        positions = indexed(resource.group, resource.kind) if resource.builtin else ()
        return EntryTable(self.prefix, positions, namespaced=resource.namespaced)

    async def _read_all(self) -> tuple[EntryTable, dict[str, Unreadable], int]:
        """Every entry of one revision. A collection would look at all of them for hundreds of milliseconds, and find
        nothing."""
        with uncollected():
            table, unreadable, revision = await self._read_pages()
            if len(table) > MANY:
                gc.freeze()
        return table, unreadable, revision

    async def _read_pages(self) -> tuple[EntryTable, dict[str, Unreadable], int]:
        table = self._table()
        unreadable: dict[str, Unreadable] = {}
        start, end, revision = self.prefix.encode(), prefix_end(self.prefix.encode()), 0
        while True:
            page = await self.feed.backend.range(Range(start, end, revision=revision, limit=_PAGE))
            revision = revision or page.revision
            entries: list[Entry] = []
            for kv, seen in zip(page.kvs, self.codec.entries(page.kvs), strict=True):
                read = seen or self.parse(kv)
                if isinstance(read, Entry):
                    entries.append(read)
                else:
                    unreadable[read.key] = read
            table.append(entries)
            self._pages += 1
            if not page.more:
                return table, unreadable, revision
            start = page.kvs[-1].key + b"\0"
            await asyncio.sleep(0)  # a store in this process answers without ever giving the loop back

    def read(self, kv: KeyValue) -> Entry:
        """The entry of a value. Raises 500, with the key, if it cannot be read."""
        entry = self.parse(kv)
        if isinstance(entry, Unreadable):
            raise entry.error()
        return entry

    def parse(self, kv: KeyValue, draft: Draft | None = None, last: Entry | None = None) -> Entry | Unreadable:
        """The entry of a value, or that there can be none. ``last`` is what watches know of its key."""
        key = kv.key.decode(errors="backslashreplace")
        try:
            return self.codec.entry(key, kv.value, kv.mod_revision, draft, kv.create_revision, kv.lease)
        except Exception as error:  # noqa: BLE001 - a traceback an object would fill the log
            log.error("object %s in the store cannot be read: %s: %s", key, type(error).__name__, error)
            return Unreadable(key, kv.mod_revision, _why(error), last)

    # -- changes

    def expect(self, key: str, draft: Draft) -> None:
        """A write of this process is on its way; what was read from its object need not be read from it again."""
        self._drafts[key] = draft

    def forget(self, key: str, draft: Draft) -> None:
        """The write failed, or nobody knows how it ended."""
        if self._drafts.get(key) is draft:
            del self._drafts[key]

    def changed(self, events: Sequence[Event], revision: int) -> None:
        if self._state is not _READY:
            self._missed.extend(events)
            return
        changes = [change for event in events if (change := self._apply(event)) is not None]
        if not changes:
            return
        self.generation += 1
        self.changed_at = changes[-1].revision
        self._window.extend(changes)
        self._window_bytes += sum([change.size for change in changes])
        self._cut_window()
        self.watchers.send(changes)
        self._notify()

    def _cut_window(self) -> None:
        window = self._window
        while len(window) > WINDOW or (self._window_bytes > WINDOW_BYTES and len(window) > LEAST_WINDOW):
            change = window.popleft()
            self.oldest = change.revision
            self._window_bytes -= change.size

    def follow(self, follower: Callable[[], None]) -> None:
        """Call ``follower`` after every change from now on, for who cannot wait until somebody asks."""
        self._followers.append(follower)

    @contextmanager
    def followed(self, follower: Callable[[], None]) -> Iterator[None]:
        """The same while the context lasts."""
        self.follow(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)

    def _notify(self) -> None:
        for follower in tuple(self._followers):
            contain(f"a follower of {self.prefix}", follower)

    def _apply(self, event: Event) -> EntryChange | None:
        """Take one change; what is no change, as it is known already or cannot be read, gives None.

        A draft that ``expect`` left saves reading the value, if it is what was written.
        """
        kv = event.kv
        if kv.mod_revision < self.changed_at:
            return None  # sent again, after the feed went back to where it was
        key = kv.key.decode(errors="backslashreplace")
        known = self._entries.get(key)
        hidden = self.unreadable.pop(key, None) if self.unreadable else None
        previous = hidden.last if hidden is not None else known
        if event.type is _DELETE:
            if known is not None:
                self._entries.remove(key)
            return EntryChange(kv.mod_revision, None, previous) if previous is not None else None
        if known is not None and known.revision == kv.mod_revision:
            return None
        draft = self._drafts.get(key)
        if draft is not None and draft.stored == kv.value:
            del self._drafts[key]
        else:
            draft = None
        entry = self.parse(kv, draft, previous)
        if isinstance(entry, Unreadable):
            self.unreadable[key] = entry
            self.generation += 1
            if known is not None:
                self._entries.remove(key)
            return None
        self._entries.put(entry)
        return EntryChange(kv.mod_revision, entry, previous)

    # -- reads; all of them after ``ready``

    def get(self, key: str) -> Entry | None:
        """Raises 500 if the key's value cannot be read."""
        entry = self._entries.get(key)
        if entry is None and (hidden := self.unreadable.get(key)) is not None:
            raise hidden.error()
        return entry

    def hidden(self, prefix: str) -> list[Unreadable]:
        """What is left out of ``under(prefix)``, as it cannot be read."""
        return [self.unreadable[key] for key in sorted(self.unreadable) if key.startswith(prefix)]

    def check_readable(self, prefix: str) -> None:
        """Raises 500 if some object cannot be read: for those who must not act as if it were not there."""
        for hidden in self.hidden(prefix) if self.unreadable else ():
            raise hidden.error()

    def __len__(self) -> int:
        return len(self._entries)

    def average_size(self) -> int:
        """About how many bytes an object has."""
        return self._entries.average_size()

    def under(self, prefix: str, after: str = "") -> Entries:
        """The entries whose key starts with ``prefix``, in the order of their keys, from key ``after`` on."""
        return self._entries.under(prefix, after)

    def page(self, prefix: str, after: str, limit: int) -> Piece:
        """The first ``limit`` of them, and how many follow."""
        return self._entries.page(prefix, after, limit)

    def select(self, selection: Selection, after: str = "") -> Sequence[Entry]:
        """The entries that match, in the order of their keys."""
        return self._entries.select(selection, after)

    def slices(self, selection: Selection, after: str = "") -> Iterator[list[Entry]]:
        """The same, as they are at the call, a slice at a time."""
        return self._entries.slices(selection, after)

    def shows(self, revision: int) -> bool:
        """Whether the objects are now as they were at ``revision``, which is not compacted."""
        return max(self.changed_at, self.feed.oldest) <= revision <= self.feed.revision

    def since(self, revision: int) -> list[EntryChange] | None:
        """The changes after ``revision``; None if some of them are no longer known."""
        if revision < self.oldest:
            return None
        if not self._window or revision >= self._window[-1].revision:
            return []
        return [change for change in self._window if change.revision > revision]


def _why(error: Exception) -> str:
    """Why a value cannot be read, for clients: without what only the decoder's own library would say."""
    match error:
        case CannotRead():
            return str(error)
        case JSONDecodeError():
            return error.msg
    return "it cannot be decoded"
