"""HTTP/2 frames as bytes, and which are allowed where (RFC 9113, sections 4 to 6). Pure.

``RULES`` says what each kind of frame must look like by itself, ``IN_STATE`` what it does to a stream in each state.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import NamedTuple

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITIZED = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11
SETTING_PUSH, SETTING_STREAMS, SETTING_WINDOW, SETTING_FRAME = 2, 3, 4, 5

MAX_FRAME = 16384
MAX_WINDOW = 0x7FFFFFFF

FRAME = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")


class ConnectionLost(Exception):
    """The peer broke the protocol; ``code`` is HTTP/2's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


class FrameRule(NamedTuple):
    """``on_stream``: whether a frame is about a stream or the connection (None: either); ``size``: its only length."""

    on_stream: bool | None
    size: int | None = None


RULES: tuple[FrameRule, ...] = (
    FrameRule(on_stream=True),  # DATA
    FrameRule(on_stream=True),  # HEADERS
    FrameRule(on_stream=True, size=5),  # PRIORITY
    FrameRule(on_stream=True, size=4),  # RST_STREAM
    FrameRule(on_stream=False),  # SETTINGS
    FrameRule(on_stream=True),  # PUSH_PROMISE
    FrameRule(on_stream=False, size=8),  # PING
    FrameRule(on_stream=False),  # GOAWAY
    FrameRule(on_stream=None, size=4),  # WINDOW_UPDATE
    FrameRule(on_stream=True),  # CONTINUATION
)


def check(kind: int, stream: int, size: int) -> None:
    """Raises ``ConnectionLost`` for a frame that is wrong wherever it is sent."""
    rule = RULES[kind]
    if rule.size is not None and size != rule.size:
        raise ConnectionLost(FRAME_SIZE_ERROR, f"a frame of kind {kind} with {size} bytes")
    if rule.on_stream is not None and (stream != 0) is not rule.on_stream:
        raise ConnectionLost(PROTOCOL_ERROR, f"a frame of kind {kind} for stream {stream}")


class ClientStreamState(enum.Enum):
    """Of a stream, as far as the client's frames go."""

    IDLE = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()
    """The client has said all (half-closed)."""
    LET_GO = enum.auto()
    """Reset by this side: what was on its way is ignored."""
    CLOSED = enum.auto()


class Reaction(NamedTuple):
    """What a frame leads to that has no place in a stream's state: an error of the connection, or of the stream, or
    nothing (no code)."""

    code: int | None
    connection: bool = False


_IGNORED = Reaction(None)
IN_STATE: Mapping[ClientStreamState, Mapping[int, Reaction]] = {
    ClientStreamState.IDLE: {
        DATA: Reaction(PROTOCOL_ERROR, connection=True),
        RST_STREAM: Reaction(PROTOCOL_ERROR, connection=True),
        WINDOW_UPDATE: Reaction(PROTOCOL_ERROR, connection=True),
    },
    ClientStreamState.OPEN: {},
    ClientStreamState.ENDED: {DATA: Reaction(STREAM_CLOSED), HEADERS: Reaction(STREAM_CLOSED)},
    ClientStreamState.LET_GO: dict.fromkeys((DATA, HEADERS, RST_STREAM, WINDOW_UPDATE), _IGNORED),
    ClientStreamState.CLOSED: {
        DATA: Reaction(STREAM_CLOSED, connection=True),
        HEADERS: Reaction(STREAM_CLOSED, connection=True),
        RST_STREAM: _IGNORED,
        WINDOW_UPDATE: _IGNORED,
    },
}
"""Frames that are not named here are handled."""


def unpadded(payload: bytes) -> bytes:
    """What is between the pad length and the padding. Raises ``ConnectionLost``."""
    if not payload or payload[0] >= len(payload):
        raise ConnectionLost(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def without_priority(stream: int, block: bytes) -> bytes:
    """A header block after its five bytes of priority. Raises ``ConnectionLost``."""
    check_dependency(stream, block)
    return block[5:]


def check_dependency(stream: int, payload: bytes) -> None:
    """Raises ``ConnectionLost`` for a priority that is cut short or makes a stream depend on itself."""
    if len(payload) < 5:
        raise ConnectionLost(FRAME_SIZE_ERROR, "a priority that is too short")
    if int.from_bytes(payload[:4], "big") & MAX_WINDOW == stream:
        raise ConnectionLost(PROTOCOL_ERROR, f"stream {stream} depends on itself")


def settings(payload: bytes) -> dict[int, int]:
    """The settings of a frame by name, checked. Raises ``ConnectionLost``."""
    if len(payload) % _SETTING.size:
        raise ConnectionLost(FRAME_SIZE_ERROR, "settings of a wrong size")
    values = dict(_SETTING.iter_unpack(payload))
    if values.get(SETTING_PUSH, 0) > 1:
        raise ConnectionLost(PROTOCOL_ERROR, "a setting of push that is neither 0 nor 1")
    if values.get(SETTING_WINDOW, 0) > MAX_WINDOW:
        raise ConnectionLost(FLOW_CONTROL_ERROR, "a window that is too large")
    if not MAX_FRAME <= values.get(SETTING_FRAME, MAX_FRAME) < 1 << 24:
        raise ConnectionLost(PROTOCOL_ERROR, "a size of frames that is out of range")
    return values


def increment(payload: bytes) -> int:
    return int.from_bytes(payload, "big") & MAX_WINDOW
