from __future__ import annotations

from tiphys.runtime.remembering import Recent, remembered


def test_short_texts_are_worked_out_once_and_long_ones_leave_nothing() -> None:
    asked: list[str] = []

    @remembered(2, longest=3)
    def double(text: str, *, times: int = 2) -> str:
        """Says it twice."""
        asked.append(text)
        return text * times

    assert [double(text) for text in ("abc", "abc", "abcd", "abcd")] == ["abcabc"] * 2 + ["abcdabcd"] * 2
    assert double("abc", times=3) == "abcabcabc"
    assert asked == ["abc", "abcd", "abcd", "abc"]
    assert (double.__name__, double.__doc__) == ("double", "Says it twice.")
    double("x")
    double("abc")
    assert asked == ["abc", "abcd", "abcd", "abc", "x", "abc"]  # of the two that are kept, the older has gone


def test_recent_values_are_few_and_of_short_texts() -> None:
    recent = Recent[int](2, longest=3)
    for number, text in enumerate((b"a", b"b", b"c", b"long", b"c")):
        recent.put(text, number)
    assert [recent.get(text) for text in (b"a", b"b", b"c", b"long")] == [None, 1, 4, None]
    assert len(recent) == 2
