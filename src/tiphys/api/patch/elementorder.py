"""The order of a merged list: what the patch names in its order, and what only the server has, in between.

Lists are as long as a request makes them, so that items are looked up by their keys, never searched for.

Source: the design "Preserve order in strategic merge patch" of the community repository.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush
from typing import Any

from tiphys.api.gotext import value_text
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.patch.failures import PatchError


def token(value: Any) -> Hashable:
    """The same for values that are the same in Go, where 1, 1.0 and true are three values."""
    if isinstance(value, (dict, list)):
        return value.__class__, fingerprint(value)
    return value.__class__, value


class Places:
    """Where the items of a list are, by the value of their merge key; without one, by their own value."""

    def __init__(self, items: list[Any], merge_key: str) -> None:
        self._merge_key = merge_key
        self._at: dict[Hashable, int] = {}
        self._size = 0
        self._no_map: int | None = None
        """The first item that is no map: upstream's search stops at it, with an error."""
        for item in items:
            self.add(item)

    def add(self, item: Any) -> None:
        """The item at the end of the list."""
        if self._no_map is None:
            if not self._merge_key:
                self._at.setdefault(token(item), self._size)
            elif not isinstance(item, dict):
                self._no_map = self._size
            elif self._merge_key in item:
                self._at.setdefault(token(item[self._merge_key]), self._size)
        self._size += 1

    def forget(self, item: Any) -> None:
        """An item that has lost its key."""
        self._at.pop(token(item.get(self._merge_key)), None)

    def of(self, wanted: Any) -> int:
        """The place of the first such item; -1 if the list has none. Raises ``PatchError``."""
        at = self._at.get(token(wanted.get(self._merge_key) if self._merge_key else wanted), -1)
        if at < 0 and self._no_map is not None:
            raise PatchError(f"value for key {self._no_map} is not a map")
        return at


def deduplicated(items: list[Any]) -> list[Any]:
    """Each value once; the last item takes the place of one that is removed, as upstream does it."""
    tokens = [token(item) for item in items]
    if len(set(tokens)) == len(tokens):
        return items
    places: dict[Hashable, list[int]] = {}
    for at, name in enumerate(tokens):
        places.setdefault(name, []).append(at)
    at = 0
    while at < len(items) - 1:
        name, known = tokens[at], places[tokens[at]]
        while known:
            other = heappop(known)
            if at < other < len(items) and tokens[other] == name:
                items[other], tokens[other] = items[-1], tokens[-1]
                items.pop()
                if other < len(items):
                    heappush(places[tokens.pop()], other)
                else:
                    tokens.pop()
        at += 1
    return items


def after_deletions(items: list[Any], deleted: list[Any], merge_key: str) -> tuple[list[Any], int]:
    """What an array holds from which items were deleted in place, and how many of it still count.

    Whenever items move up, the one that was last stays where it was, too.
    """
    places: dict[Hashable, list[int]] = {}
    for at, item in enumerate(items):
        if merge_key in item:
            places.setdefault(token(item[merge_key]), []).append(at)
    gone, left, last = set[int](), list[Any](), len(items) - 1
    for item in deleted:
        for at in places.pop(token(item.get(merge_key)), ()):
            left.append(items[last])
            gone.add(at)
            while last in gone:
                last -= 1
    alive = [item for at, item in enumerate(items) if at not in gone]
    return alive + left[::-1], len(alive)


def partition(items: list[Any], named: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """The items that ``named`` names, and the others."""
    places = Places(named, merge_key)
    ours: list[Any] = []
    theirs: list[Any] = []
    for item in items:
        if merge_key and merge_key not in item:
            raise PatchError(f"map: {value_text(item)} does not contain declared merge key: {merge_key}")
        (ours if places.of(item) >= 0 else theirs).append(item)
    return ours, theirs


def normalized(
    ours: list[Any], theirs: list[Any], order: list[Any], server_order: list[Any], merge_key: str
) -> list[Any]:
    """Both lists interleaved: each in its own order, and among each other as the server had them."""
    for items in (ours, order, theirs, server_order):
        for item in items:
            if merge_key and merge_key not in item:
                raise PatchError(f"map: {value_text(item)} does not contain declared merge key: {merge_key}")
    on_server = Places(server_order, merge_key)
    left = sorted(theirs, key=on_server.of)
    right = sorted(ours, key=Places(order, merge_key).of)
    merged: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if 0 <= on_server.of(left[i]) < on_server.of(right[j]):
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return [*merged, *left[i:], *right[j:]]
