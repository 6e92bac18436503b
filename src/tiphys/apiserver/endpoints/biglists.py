"""Big lists: made and written in pieces, between which the loop serves others, and only as fast as the reader reads.

A list of 30,000 pods is 75 MB. Joined, compressed and encrypted at once it would hold the loop for half a second, and a
slow reader would have the server keep all of it. What is kept as bytes is joined while it is sent; what has to be
converted or printed first is encoded in slices before the answer begins, so that an error still has its status.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from math import ceil
from typing import NamedTuple

import orjson

from tiphys.api import codec, protobuf
from tiphys.api.object import Object
from tiphys.api.tables.formats import Moment
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, PROTOBUF, YAML
from tiphys.apiserver.endpoints.negotiation import PARTIAL, PARTIAL_LIST, TABLE, Form
from tiphys.apiserver.endpoints.respond import (
    GZIP_LEVEL,
    body,
    entry_message,
    headers_of,
    list_meta,
    read_entry,
    show_page,
    start_of_list,
    wants_gzip,
)
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.views import partial, rows_of, table
from tiphys.apiserver.storage.blocks import Entries, entries_of
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.listing import Page
from tiphys.wire.http import Response, Sink, Stream

BIG_BYTES = 1024 * 1024
"""A list whose objects take more is big."""
PIECE_BYTES = 256 * 1024
SLICE_ITEMS = 50
"""So many objects are converted in 5 ms or so; as YAML, two."""


async def show_list_page(call: Call, target: Target, page: Page, form: Form) -> Response:
    """A page of a list in the form that was requested: whole if it is small, in pieces if it is big."""
    if form.kind == TABLE and form.media == JSON and not form.pretty and target.resource.builtin and page.entries:
        parts = await _compact_table(target, page.entries, list_meta(call, target, page, form), form)
        size = sum(map(len, parts))
        return in_pieces(call, JSON, parts, size) if size > BIG_BYTES else body(call, 200, JSON, b"".join(parts))
    entries = entries_of(page.entries)
    size = entries.size
    if size <= BIG_BYTES or form.kind == PARTIAL:
        return show_page(call, target, page, form)
    meta = list_meta(call, target, page, form)
    if form.is_plain and target.is_stored_version:
        start, separator = start_of_list(target, meta), b"," + target.item_head
        length = size + len(separator) * len(entries) - 1 + len(start) + len(b"]}\n")
        return in_pieces(call, JSON, _joined(start, separator, entries), length)
    if form.is_protobuf:
        items, length = await _messages(target, entries)
        start, end = protobuf.around(target.gvk.api_version, target.resource.list_kind, meta, length)
        pieces = chain((start,), chain.from_iterable(items), (end,))
        return in_pieces(call, PROTOBUF, pieces, len(start) + length + len(end))
    parts = await _converted(target, page.entries, meta, form)
    return in_pieces(call, YAML if form.media == YAML else JSON, parts, sum(map(len, parts)))


def _joined(start: bytes, separator: bytes, entries: Entries) -> Iterator[bytes]:
    """The text of a list out of the texts of its items, a piece at a time: equal parts of a block."""
    opening = start + separator[1:]
    for block in entries.blocks:
        bodies = [entry.body for entry in block.entries]
        step = ceil(len(bodies) / (block.size // PIECE_BYTES + 1))
        for at in range(0, len(bodies), step):
            piece = bodies[at : at + step]
            piece[0] = opening + piece[0]
            opening = separator
            yield separator.join(piece)
    yield b"]}\n"


async def _messages(target: Target, entries: Entries) -> tuple[list[list[bytes]], int]:
    """The items of a list as protobuf, in pieces, and how many bytes they take. Those of the stored version are
    kept, so only what nobody has asked for before takes long."""
    items: list[list[bytes]] = []
    size = 0
    for block in entries.blocks:
        kept = target.is_stored_version and all(entry.message is not None for entry in block.entries)
        messages: list[bytes] = []
        for some in _slices(block.entries, len(block) if kept else SLICE_ITEMS):
            messages += [entry_message(target, entry) for entry in some]
            await asyncio.sleep(0)
        items.append(protobuf.items_of(messages))
        size += sum(map(len, items[-1]))
    return items, size


async def _encoded(
    entries: Sequence[Entry], encode: Callable[[Sequence[Entry]], list[bytes]], size: int = 0
) -> list[bytes]:
    """What ``encode`` makes of all entries, ``size`` of them at a time."""
    encoded: list[bytes] = []
    for some in _slices(entries, size or SLICE_ITEMS):
        encoded += encode(some)
        await asyncio.sleep(0)
    return encoded


def _slices(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    left = iter(entries)
    return iter(lambda: list(islice(left, size)), [])


# -- forms whose items are made from objects


async def _compact_table(target: Target, entries: Sequence[Entry], meta: Object, form: Form) -> list[bytes]:
    """A table as text in pieces, with the rows that are still right as they were printed before."""
    first, last = _compact_halves(table(target, [], form, meta), "rows")
    now = target.registry.clock.now()

    def print(entry: Entry, moment: Moment) -> bytes:
        (row,) = rows_of(target, [read_entry(target, entry)], form, moment)
        return orjson.dumps(row)

    texts: list[bytes] = []
    for some in _slices(entries, SLICE_ITEMS):
        if texts:
            await asyncio.sleep(0)
        texts.append(b",".join(target.rows.texts(some, (form.version, form.include), now, print)))
    return [first + texts[0], *[b"," + text for text in texts[1:]], last]


async def _converted(target: Target, entries: Sequence[Entry], meta: Object, form: Form) -> list[bytes]:
    """A list, or a table, as text in pieces: its frame, and between its two halves the items."""
    frame, field, items_of = _frame(target, meta, form)
    text = TEXTS[form.media if form.media == YAML else "pretty" if form.pretty else "compact"]
    first, last = text.halves({**frame, field: []}, field)
    items = await _encoded(entries, lambda some: [text.item(item) for item in items_of(some)], text.at_once)
    pieces = [first]
    for number, item in enumerate(items):
        pieces += (text.separator if number else text.opening, item)
    return [*pieces, last]


def _frame(target: Target, meta: Object, form: Form) -> tuple[Object, str, Callable[[Sequence[Entry]], list[Object]]]:
    """The answer without its items, the field that holds them, and how they are made."""

    def read(entries: Sequence[Entry]) -> list[Object]:
        return [read_entry(target, entry) for entry in entries]

    def rows(entries: Sequence[Entry]) -> list[Object]:
        shown: list[Object] = table(target, read(entries), form, meta, headers=False)["rows"]
        return shown

    def bare(entries: Sequence[Entry]) -> list[Object]:
        return [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in read(entries)]

    if form.kind == TABLE:
        return table(target, [], form, meta), "rows", rows
    frame = {"kind": form.kind, "apiVersion": f"meta.k8s.io/{form.version}", "metadata": meta}
    if form.kind == PARTIAL_LIST:
        return frame, "items", lambda entries: [partial(obj, form) for obj in read(entries)]
    frame |= {"kind": target.resource.list_kind, "apiVersion": target.gvk.api_version}
    return frame, "items", bare if target.resource.builtin else read


class _Text(NamedTuple):
    """How a list is written: its halves around the items, an item, and what stands before the first and the next."""

    halves: Callable[[Object, str], tuple[bytes, bytes]]
    item: Callable[[Object], bytes]
    opening: bytes = b""
    separator: bytes = b""
    at_once: int = 0
    """How many items are made between two turns of the loop; 0 for ``SLICE_ITEMS``."""


def _compact_halves(frame: Object, field: str) -> tuple[bytes, bytes]:
    text, marker = orjson.dumps(frame), b'"%b":[]' % field.encode()
    at = text.rindex(marker) + len(marker) - 1
    return text[:at], text[at:] + b"\n"


def _pretty_halves(frame: Object, field: str) -> tuple[bytes, bytes]:
    text, marker = orjson.dumps(frame, option=orjson.OPT_INDENT_2), b'"%b": []' % field.encode()
    at = text.rindex(marker) + len(marker) - 1
    return text[:at], b"\n  " + text[at:]


def _yaml_halves(frame: Object, field: str) -> tuple[bytes, bytes]:
    text, marker = codec.to_yaml(orjson.dumps(frame)), b"%b: []\n" % field.encode()
    at = text.rindex(marker)
    return text[:at] + b"%b:\n" % field.encode(), text[at + len(marker) :]


TEXTS = {
    "compact": _Text(_compact_halves, orjson.dumps, b"", b","),
    "pretty": _Text(
        _pretty_halves,
        lambda item: orjson.dumps(item, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n    "),
        b"\n    ",
        b",\n    ",
    ),
    YAML: _Text(_yaml_halves, lambda item: codec.to_yaml(orjson.dumps([item])), at_once=2),
}


# -- writing


def in_pieces(call: Call, media: str, pieces: Iterable[bytes], length: int) -> Response:
    """An answer of ``length`` bytes that is sent piece by piece, compressed if the client accepts that."""
    headers = headers_of(call, media)
    if not wants_gzip(call):
        headers["Content-Length"] = str(length)
        return Response(200, headers, _writer(pieces))
    headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(200, headers, _writer(_compressed(pieces)))


def _writer(pieces: Iterable[bytes]) -> Stream:
    async def write(sink: Sink) -> None:
        for piece in _gathered(pieces):
            sink.write(piece)
            await sink.drain()
            if sink.closed:
                return
            await asyncio.sleep(0)  # a reader that keeps up must not keep others waiting

    return write


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth a write."""
    some: list[bytes] = []
    size = 0
    for piece in pieces:
        some.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
    for piece in _gathered(pieces):
        yield compressor.compress(piece)
    yield compressor.flush()
