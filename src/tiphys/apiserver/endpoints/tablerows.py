"""The rows of tables as text, kept for as long as they are right.

People, dashboards and scripts ask for the same table again and again. A row follows from its object and from the time,
through the ages in its cells; the printer notes for how long these stay what they are (``Moment``), so until then, or
until the object is another, its text is used again. What is kept is bounded, the oldest goes first.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tiphys.api.tables.formats import Moment
from tiphys.apiserver.storage.entry import Entry

MOST_BYTES = 8 * 1024 * 1024
"""What the rows of one resource may take; some 10,000 of pods."""

Print = Callable[[Entry, Moment], bytes]


class _Row(NamedTuple):
    entry: Entry
    right_until: float
    text: bytes


class TableRows:
    """For printers that note what they show of the time: those of built-in kinds."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: dict[tuple[str, ...], _Row] = {}
        self._size = 0

    def texts(self, entries: Sequence[Entry], form: tuple[str, ...], now: float, print: Print) -> list[bytes]:
        """The row of each entry as of ``now``, in Unix seconds; ``form`` is what rows differ by besides."""
        kept = self._kept
        texts: list[bytes] = []
        for entry in entries:
            row = kept.get((entry.key, *form))
            if row is None or row.entry is not entry or row.right_until <= now:
                row = self._printed(entry, form, now, print)
            texts.append(row.text)
        return texts

    def _printed(self, entry: Entry, form: tuple[str, ...], now: float, print: Print) -> _Row:
        moment = Moment(now)
        text = print(entry, moment)
        row = _Row(entry, moment.right_until, text)
        key = (entry.key, *form)
        self._drop(key)
        self._kept[key] = row
        self._size += len(text)
        while self._size > self._most:
            self._drop(next(iter(self._kept)))
        return row

    def _drop(self, key: tuple[str, ...]) -> None:
        row = self._kept.pop(key, None)
        if row is not None:
            self._size -= len(row.text)
