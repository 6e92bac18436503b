"""``Blocks``: entries in the order of their keys, so kept that a state of all of them is shown at once.

They lie in lists of some hundreds. A list that has been shown is never changed again: a change replaces it by a copy.
So a state of 150,000 entries is 300 references, and whoever has it reads on in slices while the table changes.

Source: https://en.wikipedia.org/wiki/Copy-on-write
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import overload

from tiphys.apiserver.storage.entry import Entry

SIZE = 512
"""How many entries a block has at most when it is made; one of twice as many is cut in two."""
_LOOKED_AT = 16
"""About how many blocks, and how many entries of each, tell how large all are."""
_key = attrgetter("key")


class Block:
    """Some neighbours, in order. Once ``shown`` its entries stay as they are."""

    __slots__ = ("_size", "entries", "shown")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.shown = False
        self._size: int | None = None

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def size(self) -> int:
        """Bytes of their bodies. Only for a block that is shown, as it is counted once."""
        if self._size is None:
            self._size = sum([len(entry.body) for entry in self.entries])
        return self._size


class Entries(Sequence[Entry]):
    """A state of some neighbours, which stays what it is."""

    __slots__ = ("_length", "blocks")

    def __init__(self, blocks: Sequence[Block]) -> None:
        for block in blocks:
            block.shown = True
        self.blocks = blocks
        self._length = sum(map(len, blocks))

    def __len__(self) -> int:
        return self._length

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum([block.size for block in self.blocks])

    def __iter__(self) -> Iterator[Entry]:
        for block in self.blocks:
            yield from block.entries

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...

    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(at, slice):
            return list(self)[at]
        if not -self._length <= at < self._length:
            raise IndexError(at)
        return _between(self.blocks, at % self._length, at % self._length + 1)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def entries_of(entries: Sequence[Entry]) -> Entries:
    """Any entries in blocks."""
    if isinstance(entries, Entries):
        return entries
    return Entries([Block(list(entries[at : at + SIZE])) for at in range(0, len(entries), SIZE)])


def _between(blocks: Sequence[Block], start: int, stop: int) -> list[Entry]:
    """The entries at the positions ``start`` to ``stop``."""
    result: list[Entry] = []
    for block in blocks:
        if stop <= 0:
            break
        if start < len(block):
            result += block.entries[max(start, 0) : stop]
        start -= len(block)
        stop -= len(block)
    return result


class Blocks:
    """All entries of a table, by their keys. Pure."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._lasts: list[str] = []
        """The last key of each block."""

    def average_size(self) -> int:
        """About how many bytes a body has: of some entries from all parts, however many there are."""
        blocks = self._blocks[:: max(1, len(self._blocks) // _LOOKED_AT)]
        some = [entry for block in blocks for entry in block.entries[:: max(1, len(block) // _LOOKED_AT)]]
        return sum([len(entry.body) for entry in some]) // len(some) if some else 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Entries that come after all that are there, in their order."""
        for at in range(0, len(entries), SIZE):
            some = list(entries[at : at + SIZE])
            self._blocks.append(Block(some))
            self._lasts.append(some[-1].key)

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one of its key."""
        if not self._blocks:
            self.append([entry])
            return
        number = min(bisect_left(self._lasts, entry.key), len(self._blocks) - 1)
        entries = self._own(number).entries
        at = bisect_left(entries, entry.key, key=_key)
        if at < len(entries) and entries[at].key == entry.key:
            entries[at] = entry
            return
        entries.insert(at, entry)
        self._lasts[number] = entries[-1].key
        if len(entries) >= 2 * SIZE:
            self._replace(number, number + 1, [entries[:SIZE], entries[SIZE:]])

    def remove(self, key: str) -> None:
        """The key must be there."""
        number = bisect_left(self._lasts, key)
        entries = self._own(number).entries
        at = bisect_left(entries, key, key=_key)
        assert entries[at].key == key
        del entries[at]
        first = max(0, number - 1)
        both = self._blocks[first : first + 2]
        if not entries:
            self._replace(number, number + 1, [])
        elif sum(map(len, both)) <= SIZE // 2 and len(both) == 2:
            self._replace(first, first + 2, [both[0].entries + both[1].entries])
        else:
            self._lasts[number] = entries[-1].key

    def _own(self, number: int) -> Block:
        """A block that may be changed."""
        block = self._blocks[number]
        if block.shown:
            block = self._blocks[number] = Block(block.entries.copy())
        return block

    def _replace(self, start: int, stop: int, lists: Sequence[list[Entry]]) -> None:
        self._blocks[start:stop] = map(Block, lists)
        self._lasts[start:stop] = [entries[-1].key for entries in lists]

    # -- reads

    def all(self) -> Entries:
        return Entries(tuple(self._blocks))

    def between(self, key: str, end: str, limit: int = 0) -> tuple[Entries, int]:
        """The entries of the keys ``[key, end)``, at most ``limit`` of them (0: all), and how many follow."""
        first, at = self._place(key)
        last, to = self._place(end)
        if key >= end:
            return Entries(()), 0
        if first == last:
            wanted = self._cut(first, at, to)
        else:
            wanted = [*self._cut(first, at, SIZE * 2), *self._blocks[first + 1 : last], *self._cut(last, 0, to)]
        count = sum(map(len, wanted))
        if not limit or count <= limit:
            return Entries(tuple(wanted)), 0
        return Entries((Block(_between(wanted, 0, limit)),)), count - limit

    def _place(self, key: str) -> tuple[int, int]:
        """The block of the first entry from ``key`` on, and its position there."""
        number = bisect_left(self._lasts, key)
        if number == len(self._blocks):
            return number, 0
        return number, bisect_left(self._blocks[number].entries, key, key=_key)

    def _cut(self, number: int, start: int, stop: int) -> list[Block]:
        """The part of a block from ``start`` to ``stop``, as a block if there is something in it."""
        if number == len(self._blocks) or start >= stop:
            return []
        block = self._blocks[number]
        if start == 0 and stop >= len(block):
            return [block]
        return [Block(block.entries[start:stop])]
