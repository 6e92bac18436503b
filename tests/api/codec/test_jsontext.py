"""The second JSON reader."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.codec.jsontext import JSONError, Number, Pairs, read
from tiphys.api.codec.typed import plain

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150)
@given(VALUES, st.sampled_from([None, 2]))
def test_reads_what_the_standard_reader_reads(value: Any, indent: int | None) -> None:
    assert plain(read(json.dumps(value, indent=indent).encode())) == value


def test_keeps_what_others_drop() -> None:
    node = read(b'{"a": 1.50, "a": 2}')
    assert isinstance(node, Pairs)
    assert [(key, value.text) for key, value in node.pairs if isinstance(value, Number)] == [("a", "1.50"), ("a", "2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"{nope", "invalid character 'n' looking for beginning of object key string"),
        (b'{"a":}', "invalid character '}' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'"\x01"', "invalid character '\\x01' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u00zz"', "invalid character 'z' in \\u hexadecimal character escape"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"1e+x", "invalid character 'x' in exponent of numeric literal"),
        (b"tru ", "invalid character ' ' in literal true (expecting 'e')"),
        (b"1 x", "invalid character 'x' after top-level value"),
        (b"'", "invalid character '\\'' looking for beginning of value"),
        (b"\xff", "invalid character 'ÿ' looking for beginning of value"),
        (b"[" * 10001, "invalid character '[' exceeded max depth"),
    ],
)
def test_messages(text: bytes, message: str) -> None:
    with pytest.raises(JSONError) as caught:
        read(text)
    assert str(caught.value) == message


def test_broken_text_is_replaced() -> None:
    assert read(b'"\\ud800"') == "\N{REPLACEMENT CHARACTER}"
    assert read(b'"\\ud83d\\ude00"') == "\U0001f600"
    assert read(b'"\xff"') == "\N{REPLACEMENT CHARACTER}"


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_anything_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(JSONError):
        read(data)
