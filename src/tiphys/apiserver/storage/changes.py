"""``EntryChange``: what happened to one object, encoded once for all who watch it."""

from __future__ import annotations

from tiphys.apiserver.storage.entry import Entry

ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"


class EntryChange:
    """From ``previous`` to ``entry``: no ``previous`` for a creation, no ``entry`` for a deletion.

    ``gone`` is the previous object under the resource version of this change: what a watch shows when the object is
    deleted, or no longer matches its selector.
    """

    __slots__ = ("_gone", "_lines", "entry", "previous", "revision", "size")

    def __init__(self, revision: int, entry: Entry | None, previous: Entry | None) -> None:
        self.revision = revision
        self.entry = entry
        self.previous = previous
        shown = entry or previous
        self.size = len(shown.body) if shown is not None else 0
        """Bytes of what it shows."""
        self._gone: Entry | None = None
        self._lines: dict[str, bytes] = {}

    @property
    def gone(self) -> Entry:
        if self._gone is None:
            assert self.previous is not None
            self._gone = at_revision(self.previous, self.revision)
        return self._gone

    def line(self, type: str, entry: Entry, head: bytes) -> bytes:
        """The event in the version that is stored, as one line of JSON."""
        cached = self._lines.get(type)
        if cached is None:
            cached = self._lines[type] = event_line(type, head, entry.body)
        return cached


def at_revision(entry: Entry, revision: int) -> Entry:
    """The same object under another resource version."""
    old, new = b'"resourceVersion":"%d"' % entry.revision, b'"resourceVersion":"%d"' % revision
    body = entry.body.replace(old, new, 1)
    return Entry(entry.key, entry.namespace, entry.name, entry.labels, entry.fields, body, revision)


def event_line(type: str, head: bytes, body: bytes) -> bytes:
    return b'{"type":"%b","object":%b%b}\n' % (type.encode(), head, body)
