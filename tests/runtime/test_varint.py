"""Numbers on the wire, held to the protobuf library's own."""

from __future__ import annotations

import pytest
from google.protobuf.internal.encoder import _VarintBytes
from hypothesis import given
from hypothesis import strategies as st

from tiphys.runtime.binary.varint import read_varint, varint


@given(st.integers(0, (1 << 64) - 1))
def test_they_are_written_as_the_library_writes_them_and_read_back(number: int) -> None:
    written = varint(number)
    assert written == _VarintBytes(number)
    assert read_varint(b"x" + written + b"y", 1) == (number, 1 + len(written))


def test_a_negative_number_takes_ten_bytes() -> None:
    assert varint(-1) == b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize(("data", "words"), [(b"", "EOF"), (b"\x80", "EOF"), (b"\x80" * 10 + b"\x01", "overflow")])
def test_what_does_not_end_or_is_too_long_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_varint(data, 0)
