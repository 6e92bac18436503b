"""HPACK, the compression of HTTP/2's header fields (RFC 7541): a decoder, and an encoder without memory.

The Huffman code is canonical, so the lengths of its codes are all there is to know of it. Whole header blocks are
cached while the dynamic table stands still: a client that repeats itself costs one look-up for each request.
"""

from __future__ import annotations

from functools import lru_cache

Field = tuple[str, str]

MAX_TABLE = 4096
"""Bytes of the dynamic table that a peer may use; the protocol's default."""
MAX_LIST = 64 * 1024
"""Bytes of one decoded list of fields, as the RFC counts them."""
_CACHED_BLOCKS = 256
_ENTRY_OVERHEAD = 32

_NAMES = """\
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate"""
"""The fields of the static table that come without a value."""

_STATIC: tuple[Field, ...] = (
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    *((":status", code) for code in ("200", "204", "206", "304", "400", "404", "500")),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    *((name, "") for name in _NAMES.splitlines()),
)

_LENGTHS = (
    "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca"
    "d67777777777777777777777878djde6f56565666577666567655677777fbeds"
    "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn"
    "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq"
    "u"
)
"""The length of each byte's code, and of the end mark's, as one digit of base 36."""


class HpackError(Exception):
    """A header block that cannot be decoded; the connection is lost, as the tables no longer agree."""


def _codes() -> dict[tuple[int, int], int]:
    lengths = sorted((int(digit, 36), symbol) for symbol, digit in enumerate(_LENGTHS))
    codes: dict[tuple[int, int], int] = {}
    code = previous = 0
    for length, symbol in lengths:
        code <<= length - previous
        codes[length, code] = symbol
        code += 1
        previous = length
    return codes


_CODES = _codes()
_END_MARK = 256


def huffman_decode(data: bytes) -> str:
    """The text of a Huffman-coded string (RFC 7541, appendix B). Raises ``HpackError`` for wrong padding."""
    out = bytearray()
    code = length = 0
    for byte in data:
        for shift in range(7, -1, -1):
            code = code << 1 | byte >> shift & 1
            length += 1
            symbol = _CODES.get((length, code))
            if symbol is not None:
                if symbol == _END_MARK:
                    raise HpackError("the end mark inside a string")
                out.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("a string with wrong padding")
    return out.decode("latin-1")


_cached_huffman = lru_cache(1024)(huffman_decode)
_CACHED_STRING = 256


class Decoder:
    """Decodes the header blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: list[Field] = []
        self._size = 0
        self._limit = MAX_TABLE
        self._blocks: dict[bytes, list[Field]] = {}

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a block, names in lower case. Raises ``HpackError``."""
        known = self._blocks.get(block)
        if known is not None:
            return known
        fields: list[Field] = []
        self._stands_still = True
        self._begun = False
        at = size = 0
        try:
            while at < len(block):
                field, at = self._field(block, at)
                if field is not None:
                    self._begun = True
                    fields.append(field)
                    size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
                    if size > MAX_LIST:
                        raise HpackError("too many header fields")
        except IndexError as error:
            raise HpackError("a header block that ends too early") from error
        if self._stands_still and len(self._blocks) < _CACHED_BLOCKS:
            self._blocks[block] = fields
        return fields

    def _field(self, block: bytes, at: int) -> tuple[Field | None, int]:
        """Decode one field, or a table size update (None); returns where the next one begins."""
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 7)
            return self._lookup(index), at
        if first & 0xE0 == 0x20:
            if self._begun:
                raise HpackError("a table's size that changes within a block")
            limit, at = _integer(block, at, 5)
            if limit > MAX_TABLE:
                raise HpackError("a dynamic table larger than allowed")
            self._limit = limit
            self._changed()
            self._evict()
            return None, at
        index, at = _integer(block, at, 6 if first & 0x40 else 4)
        if index:
            name = self._lookup(index)[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        if first & 0x40:
            self._add((name, value))
        return (name, value), at

    def _lookup(self, index: int) -> Field:
        if index == 0:
            raise HpackError("index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[-(index - len(_STATIC))]

    def _add(self, field: Field) -> None:
        self._changed()
        self._table.append(field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._evict()

    def _evict(self) -> None:
        while self._size > self._limit and self._table:
            name, value = self._table.pop(0)
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD

    def _changed(self) -> None:
        self._stands_still = False
        self._blocks.clear()


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    mask = (1 << bits) - 1
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 28:
            raise HpackError("an integer that is too large")


def _string(block: bytes, at: int) -> tuple[str, int]:
    huffman = block[at] & 0x80
    length, at = _integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise HpackError("a string that ends too early")
    data = block[at:end]
    if not huffman:
        return data.decode("latin-1"), end
    return (_cached_huffman if length <= _CACHED_STRING else huffman_decode)(data), end


def encode(fields: list[Field]) -> bytes:
    """A header block with every field in full, which no table has to remember."""
    out = bytearray()
    for name, value in fields:
        out.append(0)
        for text in (name.encode("latin-1"), value.encode("latin-1")):
            out += _encode_integer(len(text), 7)
            out += text
    return bytes(out)


def _encode_integer(value: int, bits: int) -> bytes:
    mask = (1 << bits) - 1
    if value < mask:
        return bytes([value])
    out = bytearray([mask])
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
