from __future__ import annotations

from tiphys.runtime.remembering import remembered


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
