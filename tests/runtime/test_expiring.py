"""What is remembered ends, and is never much."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.runtime.expiring import Expiring, SharedCalls


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


def test_who_asks_the_same_waits_for_one_answer_and_goes_away_alone() -> None:
    asked: list[str] = []

    async def main() -> None:
        calls, let = SharedCalls[str, str](), asyncio.Event()

        async def ask(key: str) -> str:
            asked.append(key)
            await let.wait()
            if key == "wrong":
                raise ValueError(key)
            return key * 2

        waiting = [
            asyncio.ensure_future(calls.answer(key, lambda key=key: ask(key))) for key in ("a", "a", "wrong", "a")
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        alone = asyncio.ensure_future(calls.answer("b", lambda: ask("b")))
        await asyncio.sleep(0)
        alone.cancel()
        await asyncio.sleep(0)
        let.set()
        first, second, wrong, third = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(first, asyncio.CancelledError)
        assert (second, third, str(wrong)) == ("aa", "aa", "wrong")
        assert asked == ["a", "wrong", "b"]
        await asyncio.sleep(0)
        assert await calls.answer("a", lambda: ask("a")) == "aa"  # it had ended: it is asked again
        let.clear()
        left = asyncio.ensure_future(calls.answer("c", lambda: ask("c")))
        while "c" not in asked:
            await asyncio.sleep(0)
        calls.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left

    asyncio.run(main())
    assert asked == ["a", "wrong", "b", "a", "c"]
