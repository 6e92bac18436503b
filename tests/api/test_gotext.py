"""Text as Go prints it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.gotext import json_text, quote, value_text


@pytest.mark.parametrize(
    ("value", "fmt", "js"),
    [
        (1.0, "1", "1"),
        (-0.0, "-0", "-0"),
        (1e20, "1e+20", "100000000000000000000"),
        (1e21, "1e+21", "1e+21"),
        (1e-7, "1e-07", "1e-7"),
        (0.00001, "1e-05", "0.00001"),
        (123456.5, "123456.5", "123456.5"),
        (123456789.5, "1.234567895e+08", "123456789.5"),
        (-2.5e-5, "-2.5e-05", "-0.000025"),
    ],
)
def test_floats(value: float, fmt: str, js: str) -> None:
    assert json_text(value) == js
    assert value_text(value) == fmt


def test_quote() -> None:
    assert quote('a"\\\n\x00é\u200b\U0001f600') == '"a\\"\\\\\\n\\x00é\\u200b😀"'


def test_maps_and_lists() -> None:
    assert value_text({"b": [1, None], "a": {"x": True}}) == "map[a:map[x:true] b:[1 <nil>]]"
    assert json_text({"b": "<&>", "a": None}) == '{"b":"\\u003c\\u0026\\u003e","a":null}'


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_text_reads_back(value: object) -> None:
    assert json.loads(json_text(value)) == value


@settings(max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back(value: float) -> None:
    assert float(json_text(value)) == value
    assert float(value_text(value)) == value
