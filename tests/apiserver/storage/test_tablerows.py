"""What is kept of printed rows is bounded."""

from __future__ import annotations

from tiphys.api.tables.formats import Moment
from tiphys.apiserver.endpoints.tablerows import TableRows
from tiphys.apiserver.storage.entry import Entry


def test_rows_take_no_more_room_than_they_may_and_the_oldest_goes_first() -> None:
    entries = [Entry(f"/k/{number}", "", str(number), {}, (), b"", 1) for number in range(10)]
    printed: list[str] = []

    def print(entry: Entry, moment: Moment) -> bytes:
        printed.append(entry.name)
        return b"x" * 100

    rows = TableRows(most_bytes=500)
    assert rows.texts(entries, ("v1",), 0.0, print) == [b"x" * 100] * 10
    assert len(rows._kept) == 5
    printed.clear()
    rows.texts(entries[5:], ("v1",), 0.0, print)
    assert printed == []
    rows.texts(entries[4:], ("v1",), 0.0, print)
    assert printed == ["4", "5", "6", "7", "8", "9"]
