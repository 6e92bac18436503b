"""What is remembered ends, and is never much."""

from __future__ import annotations

from tiphys.runtime.expiring import Expiring


def test_entries_end() -> None:
    table: Expiring[str, int | None] = Expiring(10)
    table.put("a", 1, until=5.0)
    table.put("none", None, until=5.0)
    assert table.get("a", 4.9) == (1,)
    assert table.get("none", 0.0) == (None,)
    assert table.get("a", 5.0) is None
    assert table.get("b", 0.0) is None
    assert len(table) == 1


def test_a_full_table_drops_the_oldest_first() -> None:
    table: Expiring[int, int] = Expiring(3)
    for number in range(1000):
        table.put(number, number, until=9.0)
    assert len(table) == 3
    assert [number for number in range(1000) if table.get(number, 0.0)] == [997, 998, 999]
    table.put(997, 0, until=9.0)  # known again: the newest now
    table.put(1, 1, until=9.0)
    assert table.get(997, 0.0) == (0,)
    assert table.get(998, 0.0) is None
