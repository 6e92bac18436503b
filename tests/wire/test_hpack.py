from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.wire.grpc.hpack import Decoder, HpackError, encode, huffman_decode


def test_the_examples_of_the_rfc() -> None:
    """RFC 7541, C.4 and C.5.1: requests with Huffman coding, and a table that is too small for its entries."""
    decoder = Decoder()
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
    assert decoder.decode(bytes.fromhex("828684418cf1e3c2e5f23a6ba0ab90f4ff")) == first
    assert decoder.decode(bytes.fromhex("828684be5886a8eb10649cbf")) == [*first, ("cache-control", "no-cache")]
    third = decoder.decode(bytes.fromhex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"))
    assert third == [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ]
    assert decoder.decode(bytes.fromhex("20828684")) == first[:3]  # the table is emptied
    with pytest.raises(HpackError):
        decoder.decode(bytes.fromhex("be"))


@given(st.lists(st.tuples(st.text("abc-", min_size=1), st.text("abc/:", max_size=300)), max_size=20))
def test_what_is_encoded_is_decoded(fields: list[tuple[str, str]]) -> None:
    assert Decoder().decode(encode(fields)) == fields


@given(st.binary(max_size=60))
def test_rubbish_is_refused_or_read_but_never_breaks(block: bytes) -> None:
    try:
        fields = Decoder().decode(block)
    except HpackError:
        return
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in fields)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00", b"\xf1\xe3\x00"])
def test_wrong_padding_and_the_end_mark_are_refused(data: bytes) -> None:
    with pytest.raises(HpackError):
        huffman_decode(data)
