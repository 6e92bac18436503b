"""The ``Warning`` fields of answers."""

from __future__ import annotations

from tiphys.apiserver.endpoints.warningfields import warning_fields


def test_one_field_for_each_warning() -> None:
    assert warning_fields(["a", 'say "b\\c"', "ü"]) == '299 - "a"\n299 - "say \\"b\\\\c\\""\n299 - "ü"'


def test_control_characters_cannot_be_sent() -> None:
    assert warning_fields(["a\nb", "c"]) == '299 - "c"'


def test_long_warnings_are_cut_where_all_together_are_too_long() -> None:
    long = "x" * 300
    assert warning_fields([long] * 13) == "\n".join([f'299 - "{long}"'] * 13)
    assert warning_fields([long] * 20) == "\n".join([f'299 - "{"x" * 256}"'] * 16)
