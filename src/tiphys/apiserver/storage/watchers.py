"""Delivery of changes to open watches.

Watches that ask for the same thing in the same form are one ``WatcherGroup``: an event is selected and encoded once
per group and the same bytes are written to every member. Groups whose selection names one value of a field (a node's
pods, one object, one namespace) are found by that value, so that ten thousand of them cost nothing to the others.

A group whose change cannot be selected or encoded, as no webhook converts it for one, ends with that error for its
members; a member that cannot be written to is cut off. The other groups and members are sent theirs regardless.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tiphys.apiserver.storage.changes import ADDED, DELETED, MODIFIED, EntryChange
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.selection import FieldTerm, Selection
from tiphys.runtime.tasks import contain

log = logging.getLogger(__name__)

MAX_BUFFERED = 32 * 1024 * 1024
"""Bytes that may wait for one watcher before it is cut off; it will list and watch again."""
_LOOK_AFTER = 256 * 1024
"""Bytes written to a group between two checks of its members' backlogs: checking each of hundreds after every event
costs as much as sending it, and a bound is not missed by more than this."""

Encode = Callable[[str, Entry, EntryChange], bytes]
"""Returns the bytes of a change for a watcher: its type, the object to show."""


class Member(Protocol):
    """One open watch."""

    def write(self, data: bytes) -> None: ...

    @property
    def buffered(self) -> int: ...

    def cut_off(self) -> None:
        """End the watch, as its reader is too slow or the cache has lost the thread."""
        ...

    def fail(self, error: Exception) -> None:
        """End the watch, after an event that says why."""
        ...


class WatcherGroup:
    """Watches with the same selection and form. ``bookmark`` encodes a revision for those that requested bookmarks."""

    def __init__(self, key: tuple[object, ...], selection: Selection, encode: Encode) -> None:
        self.key = key
        self.selection = selection
        self.members: dict[int, Member] = {}
        self.bookmark: Callable[[int], bytes] | None = None
        self._encode = encode
        self._until_look = 0

    def render(self, changes: Iterable[EntryChange]) -> bytes:
        """What to send a member about these changes; often nothing."""
        return b"".join([line for change in changes if (line := self._line(change))])

    def _line(self, change: EntryChange) -> bytes:
        matches = self.selection.matches
        entry, previous = change.entry, change.previous
        now = entry is not None and matches(entry)
        before = previous is not None and matches(previous)
        if now:
            assert entry is not None
            return self._encode(MODIFIED if before else ADDED, entry, change)
        return self._encode(DELETED, change.gone, change) if before else b""

    def send(self, changes: Sequence[EntryChange]) -> None:
        """Render the changes once and write them to every member; cut off members with too large a backlog."""
        try:
            data = self.render(changes)
        except Exception as error:  # noqa: BLE001 - its members get it, and log it
            self._fail(error)
            return
        if not data:
            return
        self.write(data)
        self._until_look -= len(data)
        if self._until_look <= 0:
            self._until_look = _LOOK_AFTER
            for member in list(self.members.values()):
                if member.buffered > MAX_BUFFERED:
                    member.cut_off()

    def write(self, data: bytes) -> None:
        """Give every member the same bytes."""
        for member in list(self.members.values()):
            try:
                member.write(data)
            except Exception:
                log.exception("a watcher cannot be written to and is cut off")
                member.cut_off()

    def mark(self, revision: int) -> None:
        if self.bookmark is not None:
            self.write(self.bookmark(revision))

    def _fail(self, error: Exception) -> None:
        log.warning("%d watches of %s end: %s", len(self.members), self.selection.prefix, error)
        for member in list(self.members.values()):
            contain("ending a watch", member.fail, error)


class Watchers:
    """All groups of one cache."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], WatcherGroup] = {}
        self._plain: dict[int, WatcherGroup] = {}
        self._indexed: dict[int, dict[str, dict[int, WatcherGroup]]] = {}

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups.values())

    @property
    def unselective(self) -> int:
        """The watches that see every change, of any object."""
        return sum([len(group.members) for group in self._plain.values()]) if self._plain else 0

    def join(self, member: Member, selection: Selection, form: tuple[object, ...], encode: Encode) -> WatcherGroup:
        """Deliver every change from now on to ``member``."""
        key = (*selection.key, *form)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = WatcherGroup(key, selection, encode)
            self._place(group)[id(group)] = group
        group.members[id(member)] = member
        return group

    def leave(self, member: Member, group: WatcherGroup) -> None:
        group.members.pop(id(member), None)
        if not group.members:
            self._place(group).pop(id(group), None)
            self._groups.pop(group.key, None)

    def _place(self, group: WatcherGroup) -> dict[int, WatcherGroup]:
        index = group.selection.index()
        if index is None:
            return self._plain
        position, value = index
        return self._indexed.setdefault(position, {}).setdefault(value, {})

    def send(self, changes: Sequence[EntryChange]) -> None:
        if not self._groups:
            return
        for group in list(self._plain.values()):
            group.send(changes)
        for position in self._indexed:
            for group, own in self._concerned(position, changes):
                group.send(own)

    def _concerned(self, position: int, changes: Sequence[EntryChange]) -> list[tuple[WatcherGroup, list[EntryChange]]]:
        """The groups for which a change has, or had, the value that they select by, each with those changes."""
        read = FieldTerm(position, "").read
        by_value = self._indexed[position]
        by_group: dict[int, tuple[WatcherGroup, list[EntryChange]]] = {}
        for change in changes:
            for value in {read(entry) for entry in (change.entry, change.previous) if entry is not None}:
                for group in by_value.get(value, {}).values():
                    by_group.setdefault(id(group), (group, []))[1].append(change)
        return list(by_group.values())

    def mark(self, revision: int) -> None:
        """Send bookmarks to every watcher that requested them."""
        for group in list(self._groups.values()):
            contain("marking a watch", group.mark, revision)

    def members(self) -> list[Member]:
        return [member for group in self._groups.values() for member in group.members.values()]

    def cut_off_all(self) -> None:
        for member in self.members():
            contain("ending a watch", member.cut_off)
