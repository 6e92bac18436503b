"""SPDY/3.1 frames as bytes (https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/). Pure.

Kubernetes speaks SPDY for exec, attach and port-forward: as an Upgrade of an HTTP/1.1 request, with streams that are
distinguished by their headers. Header blocks are compressed with zlib over one dictionary that the specification gives;
both directions keep one compressor each for the whole connection.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_HEADER_BLOCK = 1 << 20
_MAX_HEADERS = 1000
_VERSION = 3
_SEPARATOR = "\x00"

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()) + _TAIL.encode()
)
"""The specification's dictionary (section 2.6.10.1): words with their lengths, then text."""


class FrameKind(enum.IntEnum):
    DATA = 0
    """Not on the wire: data frames have no type."""
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class ResetStatus(enum.IntEnum):
    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7


FLAG_FIN = 1
FLAG_UNIDIRECTIONAL = 2
SETTING_INITIAL_WINDOW = 7
INITIAL_WINDOW = 64 * 1024


class SpdyError(Exception):
    """The other side broke the protocol; the connection cannot continue."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame read. ``value``: status, ping id, last good stream, window delta or initial window, by kind."""

    kind: FrameKind
    stream: int = 0
    flags: int = 0
    data: bytes = b""
    headers: Mapping[str, str] | None = None
    value: int = 0


class Writer:
    """Makes frames; keeps the compressor of the headers sent."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        body = struct.pack(">IIH", stream, 0, 0) + self._block(headers)
        return _control(FrameKind.SYN_STREAM, FLAG_FIN if fin else 0, body)

    def syn_reply(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        body = struct.pack(">I", stream) + self._block(headers)
        return _control(FrameKind.SYN_REPLY, FLAG_FIN if fin else 0, body)

    def _block(self, headers: Mapping[str, str]) -> bytes:
        parts = [struct.pack(">I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (struct.pack(">I", len(text)), text)
        return self._compressor.compress(b"".join(parts)) + self._compressor.flush(zlib.Z_SYNC_FLUSH)


def data_frame(stream: int, data: bytes, *, fin: bool = False) -> bytes:
    return struct.pack(">II", stream, (FLAG_FIN << 24 if fin else 0) | len(data)) + data


def reset_frame(stream: int, status: ResetStatus) -> bytes:
    return _control(FrameKind.RST_STREAM, 0, struct.pack(">II", stream, status))


def ping_frame(number: int) -> bytes:
    return _control(FrameKind.PING, 0, struct.pack(">I", number))


def goaway_frame(last_stream: int, status: int = 0) -> bytes:
    return _control(FrameKind.GOAWAY, 0, struct.pack(">II", last_stream, status))


def window_update_frame(stream: int, delta: int) -> bytes:
    return _control(FrameKind.WINDOW_UPDATE, 0, struct.pack(">II", stream, delta))


def _control(kind: FrameKind, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, flags << 24 | len(body)) + body


class Reader:
    """Cuts bytes into frames; keeps the decompressor of the headers received."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._decompressor = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            control = first >> 31
            if control and length > MAX_HEADER_BLOCK:
                raise SpdyError(f"control frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                return
            body = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            flags = second >> 24
            if not control:
                if first == 0:
                    raise SpdyError("data for stream 0")
                yield Frame(FrameKind.DATA, first, flags, body)
            elif (frame := self._control_frame(first, flags, body)) is not None:
                yield frame

    def _control_frame(self, first: int, flags: int, body: bytes) -> Frame | None:
        version, number = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != _VERSION:
            raise SpdyError(f"SPDY version {version}")
        try:
            kind = FrameKind(number)
        except ValueError:
            return None  # unknown control frames are to be ignored
        try:
            return self._parse(kind, flags, body)
        except struct.error as error:
            raise SpdyError(f"{kind.name} frame of {len(body)} bytes") from error

    def _parse(self, kind: FrameKind, flags: int, body: bytes) -> Frame | None:
        if kind is FrameKind.SETTINGS:
            return self._settings(body)
        first = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
        if kind is FrameKind.SYN_STREAM:
            return Frame(kind, _nonzero(first), flags, headers=self._headers(body[10:]))
        if kind in (FrameKind.SYN_REPLY, FrameKind.HEADERS):
            return Frame(kind, _nonzero(first), flags, headers=self._headers(body[4:]))
        if kind is FrameKind.PING:
            return Frame(kind, value=struct.unpack_from(">I", body)[0])
        second = struct.unpack_from(">I", body, 4)[0] & 0x7FFFFFFF
        if kind is FrameKind.GOAWAY:
            return Frame(kind, stream=first, value=second)
        return Frame(kind, first, flags, value=second)  # RST_STREAM, WINDOW_UPDATE

    def _settings(self, body: bytes) -> Frame | None:
        (count,) = struct.unpack_from(">I", body)
        if len(body) < 4 + 8 * count:
            raise SpdyError("SETTINGS frame is too short")
        for index in range(count):
            identifier, value = struct.unpack_from(">II", body, 4 + 8 * index)
            if identifier & 0xFFFFFF == SETTING_INITIAL_WINDOW:
                return Frame(FrameKind.SETTINGS, value=value)
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._decompressor.decompress(block, MAX_HEADER_BLOCK)
        except zlib.error as error:
            raise SpdyError(f"header block: {error}") from error
        if self._decompressor.unconsumed_tail:
            raise SpdyError("header block is too large")
        (count,) = struct.unpack_from(">I", plain)
        if count > _MAX_HEADERS:
            raise SpdyError(f"{count} headers")
        at = 4
        texts: list[str] = []
        for _ in range(2 * count):
            (length,) = struct.unpack_from(">I", plain, at)
            end = at + 4 + length
            if end > len(plain):
                raise SpdyError("header block ends early")
            texts.append(plain[at + 4 : end].decode("utf-8", "replace"))
            at = end
        return {name.lower(): value.replace(_SEPARATOR, ", ") for name, value in zip(*[iter(texts)] * 2, strict=True)}


def _nonzero(stream: int) -> int:
    if stream == 0:
        raise SpdyError("stream 0")
    return stream
