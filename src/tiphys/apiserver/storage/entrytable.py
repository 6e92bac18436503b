"""``EntryTable``: the entries of one resource in the order of their keys, and by the fields that lists select them by.

What a read costs follows from what it shows, not from how many objects there are: a page is cut out of the ordered
keys, and a selection by an indexed field looks at its matches only. Pure.

Source: KEP-2340; upstream's indexer of pods by ``spec.nodeName``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from sortedcontainers import SortedList

from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.selection import NAME, Selection


class Piece(NamedTuple):
    """Some entries of a selection. ``following`` is how many come after them; None: some, nobody has counted."""

    entries: list[Entry]
    following: int | None


class EntryTable:
    """``prefix`` starts the key of every entry; ``indexed`` are positions of fields, of entries that have them."""

    def __init__(self, prefix: str, entries: Iterable[Entry], indexed: Iterable[int] = (), *, namespaced: bool) -> None:
        self._prefix = prefix
        self._namespaced = namespaced
        self._entries = {entry.key: entry for entry in entries}
        self._keys: SortedList[str] = SortedList(self._entries)
        self._indexes: dict[int, dict[str, set[str]]] = {position: {} for position in indexed}
        for entry in self._entries.values() if self._indexes else ():
            self._index(entry)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def put(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is None:
            self._keys.add(entry.key)
        elif known.fields != entry.fields:
            self._unindex(known)
        self._entries[entry.key] = entry
        self._index(entry)

    def remove(self, key: str) -> None:
        """The key must be there."""
        self._unindex(self._entries.pop(key))
        self._keys.remove(key)

    def _index(self, entry: Entry) -> None:
        for position, index in self._indexes.items():
            index.setdefault(entry.fields[position], set()).add(entry.key)

    def _unindex(self, entry: Entry) -> None:
        for position, index in self._indexes.items():
            keys = index[entry.fields[position]]
            keys.discard(entry.key)
            if not keys:
                del index[entry.fields[position]]

    # -- reads

    def under(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """The entries whose key starts with ``prefix``, in the order of their keys, from key ``after`` on.

        The table may change while they are read: they are those of the moment of the call.
        """
        entries = self._entries
        if prefix == self._prefix and not after:
            return iter([entries[key] for key in self._keys])
        return iter([entries[key] for key in self._keys[slice(*self._between(prefix, after))]])

    def _between(self, prefix: str, after: str) -> tuple[int, int]:
        """The positions of the first key of a range, and of the first behind it."""
        keys = self._keys
        return keys.bisect_left(max(prefix, after)), keys.bisect_left(prefix[:-1] + chr(ord(prefix[-1]) + 1))

    def select(self, selection: Selection, after: str = "") -> list[Entry]:
        """All entries that match, in the order of their keys."""
        if selection.is_everything:
            return list(self.under(selection.prefix, after))
        return list(filter(selection.matches, self._candidates(selection, after)))

    def piece(self, selection: Selection, after: str, limit: int) -> Piece:
        """The first ``limit`` entries that match, from key ``after`` on."""
        if not selection.is_everything:
            matching = list(islice(filter(selection.matches, self._candidates(selection, after)), limit + 1))
            return Piece(matching[:limit], None if len(matching) > limit else 0)
        start, end = self._between(selection.prefix, after)
        keys = self._keys[start : min(end, start + limit)]
        return Piece([self._entries[key] for key in keys], max(0, end - start - limit))

    def _candidates(self, selection: Selection, after: str) -> Iterable[Entry]:
        """Every entry that may match, and as few others as is possible without looking at them, in order."""
        keys = self._known_keys(selection)
        if keys is None:
            start, end = self._between(selection.prefix, after)
            return map(self._entries.__getitem__, self._keys.islice(start, end))
        within = sorted(key for key in keys if key.startswith(selection.prefix) and key >= after)
        return [self._entries[key] for key in within]

    def _known_keys(self, selection: Selection) -> Iterable[str] | None:
        """The keys among which all matches are, if they are known; None: any."""
        for term in selection.terms:
            if not term.equal:
                continue
            if term.position == NAME and (selection.namespace or not self._namespaced):
                key = selection.prefix + term.value
                return (key,) if key in self._entries else ()
            if (index := self._indexes.get(term.position)) is not None:
                return index.get(term.value, ())
        return None
