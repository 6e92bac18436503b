"""A watch of objects that a webhook converts: changes wait in order until they are converted, and are then written.

It stands between the cache, which hands changes over without waiting, and the open watch. What is slow or fails is this
one watch: others have their own line, and the cache continues.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio

from tiphys.apiserver.storage.changes import EntryChange
from tiphys.apiserver.storage.converted import ConvertedStore
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.storage.watchers import Encode, Member, WatcherGroup

_MAX_WAITING = 2000
"""Changes that may wait for their conversion before the watch is cut off; its client will list and watch again."""


class ConvertedChanges:
    """A member of a group of the cache. ``take`` is the encoder of its group, which keeps what it is given."""

    def __init__(self, store: ConvertedStore, selection: Selection, encode: Encode, watch: Member) -> None:
        self.selection = store.narrow(selection)
        self._store = store
        self._shown = WatcherGroup((), selection, encode)
        self._watch = watch
        self._waiting: asyncio.Queue[EntryChange | bytes] = asyncio.Queue(_MAX_WAITING)
        self._at_work = False

    @property
    def is_idle(self) -> bool:
        """Whether everything that happened so far is written."""
        return self._waiting.empty() and not self._at_work

    # -- the cache's side

    def take(self, type: str, entry: Entry, change: EntryChange) -> bytes:
        self._put(change)
        return b""

    def write(self, data: bytes) -> None:
        """A bookmark, which keeps its place among the changes."""
        self._put(data)

    @property
    def buffered(self) -> int:
        return self._watch.buffered

    def cut_off(self) -> None:
        self._watch.cut_off()

    def fail(self, error: Exception) -> None:
        self._watch.fail(error)

    def _put(self, item: EntryChange | bytes) -> None:
        try:
            self._waiting.put_nowait(item)
        except asyncio.QueueFull:
            self._watch.cut_off()

    # -- the watch's side

    async def run(self) -> None:
        """Write what has been taken; until the watch ends, or with an error, which ends it."""
        try:
            while True:
                item = await self._waiting.get()
                self._at_work = True
                data = item if isinstance(item, bytes) else await self._render(item)
                if data:
                    self._watch.write(data)
                self._at_work = False
        except Exception as error:  # noqa: BLE001 - the watch reports it to its client, or logs it
            self._watch.fail(error)

    async def _render(self, change: EntryChange) -> bytes:
        involved = [entry for entry in (change.entry, change.previous) if entry is not None]
        shown = dict(zip(map(id, involved), await self._store.shown(involved), strict=True))
        entry, previous = (None if e is None else shown[id(e)] for e in (change.entry, change.previous))
        return self._shown.render((EntryChange(change.revision, entry, previous),))
