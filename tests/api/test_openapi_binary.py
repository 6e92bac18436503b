"""OpenAPI documents in protobuf form: byte for byte what the original makes of the same documents."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.api.openapi import pieces_v2, pieces_v3
from tiphys.api.openapi.binary import encode_v2, encode_v3

RECORDED = Path(__file__).parent / "recorded"
Encode = Callable[[Any], bytes]
Pieces = Callable[[Any], Iterator[bytes]]


def recorded(name: str) -> bytes:
    return gzip.decompress((RECORDED / f"{name}.gz").read_bytes())


@pytest.mark.parametrize(("version", "encode"), [("v2", encode_v2), ("v3", encode_v3)])
def test_a_recorded_document_has_the_originals_bytes(version: str, encode: Encode) -> None:
    document = orjson.loads(recorded(f"openapi_{version}.json"))
    assert encode(document) == recorded(f"openapi_{version}.pb")


@pytest.mark.parametrize(("version", "pieces"), [("v2", pieces_v2), ("v3", pieces_v3)])
def test_the_pieces_of_a_document_merge_into_the_whole(version: str, pieces: Pieces) -> None:
    document = orjson.loads(recorded(f"openapi_{version}.json"))
    joined = b"".join(pieces(document))
    assert merged(joined) == merged(recorded(f"openapi_{version}.pb"))
    assert sum(1 for _ in pieces(document)) > len(document["paths"])


@pytest.mark.parametrize(
    ("schema", "content"),
    [
        ({"default": False}, b"\x10\x00"),
        ({"default": 0}, b"\x09" + bytes(8)),
        ({"default": ""}, b"\x1a\x00"),
        ({"default": {}}, b""),
    ],
)
def test_a_default_that_is_zero_is_set(schema: Any, content: bytes) -> None:
    encoded = encode_v3({"components": {"schemas": {"n": schema}}})
    assert encoded.endswith(b"\x8a\x02" + bytes([len(content)]) + content)


# A reader of its own: two documents are equal where their messages, merged as protobuf has it, are.


def merged(document: bytes) -> list[tuple[int, bytes]]:
    """The fields of a document; large ones, which may come in parts, are taken apart into their entries."""
    found: list[tuple[int, bytes]] = []
    for number, content in fields(document):
        entries = list(fields(content)) if number in _IN_PARTS else [(0, content)]
        for inner, entry in entries:
            deeper = fields(entry) if inner == 1 and number == 5 and document.startswith(b"\n\x053.0") else [(0, entry)]
            found.extend((number * 10_000 + inner * 100 + last, data) for last, data in deeper)
    return sorted(found)


_IN_PARTS = (4, 5, 8, 9)
"""Paths and definitions (8, 9) of version 2, paths and components (4, 5) of version 3."""


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        assert tag & 7 == 2
        size, at = varint(data, at)
        yield tag >> 3, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
