"""``EntryTable``: the entries of one resource in the order of their keys, and by the fields that lists select them by.

What a read costs follows from what it shows, not from how many objects there are: a page is cut out of the ordered
entries, and a selection by an indexed field looks at its matches only. Pure.

Source: KEP-2340; upstream's indexer of pods by ``spec.nodeName``
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from tiphys.apiserver.storage.blocks import Blocks, Entries
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.selection import NAME, Selection

LOOKED_AT = 2000
"""How many entries are held against a selection at a time: some milliseconds."""
_key = attrgetter("key")


class Piece(NamedTuple):
    """Some entries, and how many come after them."""

    entries: Sequence[Entry]
    following: int


class EntryTable:
    """``prefix`` starts the key of every entry; ``indexed`` are positions of fields, of entries that have them."""

    def __init__(self, prefix: str, indexed: Iterable[int] = (), *, namespaced: bool) -> None:
        self._prefix = prefix
        self._namespaced = namespaced
        self._entries: dict[str, Entry] = {}
        self._ordered = Blocks()
        self._indexes: dict[int, defaultdict[str, set[str]]] = {position: defaultdict(set) for position in indexed}

    def __len__(self) -> int:
        return len(self._entries)

    def average_size(self) -> int:
        """About how many bytes an entry has."""
        return self._ordered.average_size()

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def append(self, entries: Sequence[Entry]) -> None:
        """Entries that come after all that are there, in the order of their keys."""
        self._entries.update(zip(map(_key, entries), entries, strict=True))
        self._ordered.append(entries)
        for position, index in self._indexes.items():
            for entry in entries:
                index[entry.fields[position]].add(entry.key)

    def put(self, entry: Entry) -> None:
        known = self._entries.get(entry.key)
        if known is not None and known.fields != entry.fields:
            self._unindex(known)
        self._ordered.put(entry)
        self._entries[entry.key] = entry
        self._index(entry)

    def remove(self, key: str) -> None:
        """The key must be there."""
        self._unindex(self._entries.pop(key))
        self._ordered.remove(key)

    def _index(self, entry: Entry) -> None:
        for position, index in self._indexes.items():
            index[entry.fields[position]].add(entry.key)

    def _unindex(self, entry: Entry) -> None:
        for position, index in self._indexes.items():
            keys = index[entry.fields[position]]
            keys.discard(entry.key)
            if not keys:
                del index[entry.fields[position]]

    # -- reads

    def under(self, prefix: str, after: str = "") -> Entries:
        """The entries whose key starts with ``prefix``, in the order of their keys, from key ``after`` on: those of
        the moment of the call, whatever changes later."""
        if prefix == self._prefix and not after:
            return self._ordered.all()
        return self._ordered.between(max(prefix, after), _behind(prefix))[0]

    def page(self, prefix: str, after: str, limit: int) -> Piece:
        """The first ``limit`` entries under ``prefix`` from key ``after`` on, and how many follow."""
        return Piece(*self._ordered.between(max(prefix, after), _behind(prefix), limit))

    def select(self, selection: Selection, after: str = "") -> Sequence[Entry]:
        """All entries that match, in the order of their keys."""
        if selection.is_everything:
            return self.under(selection.prefix, after)
        return list(chain.from_iterable(self.slices(selection, after)))

    def slices(self, selection: Selection, after: str = "") -> Iterator[list[Entry]]:
        """The same, as they are at the call, in slices: each is what matches out of a bounded number that is looked
        at when the slice is asked for, so there may be nothing in it."""
        candidates = iter(self._candidates(selection, after))
        looked_at = iter(lambda: list(islice(candidates, LOOKED_AT)), [])
        return (list(filter(selection.matches, some)) for some in looked_at)

    def _candidates(self, selection: Selection, after: str) -> Sequence[Entry]:
        """Every entry that may match, and as few others as is possible without looking at them, in order."""
        keys = self._known_keys(selection)
        if keys is None:
            return self.under(selection.prefix, after)
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


def _behind(prefix: str) -> str:
    """The first key behind all that start with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
