"""Pings of a SPDY client, answered on the way in place of by the far end.

A runtime closes its socket as soon as it has written the end of a stream. If the client's side is slow, some megabytes
still wait in the kernel then, and the next byte that comes for the closed socket, such as kubectl's ping every five
seconds, makes the kernel forget them. So whoever joins a client to a runtime passes no pings on.

Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
from collections import deque

from tiphys.wire.http import ByteStream
from tiphys.wire.spdy.frames import FrameKind, ping_frame

_HEAD = 8
_PING = struct.pack(">HH", 0x8003, FrameKind.PING)
_PING_LENGTH = _HEAD + 4
_MOST_DUE = 100
"""So many answers wait for the end of a frame; older ones are given up."""


class _Frames:
    """Follows the frames in one direction's bytes."""

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the present frame that are still to come."""

    def step(self, data: bytes, at: int) -> int | None:
        """Where the frame at ``at`` ends within ``data``; None if its head is not whole yet."""
        if self.left == 0:
            if len(data) - at < _HEAD:
                return None
            self.left = _HEAD + (int.from_bytes(data[at + 4 : at + _HEAD], "big") & 0xFFFFFF)
        size = min(self.left, len(data) - at)
        self.left -= size
        return at + size


class PingsAnswered:
    """A client's ``ByteStream`` whose reader sees no pings of the client. Answers go out between two frames."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._incoming = _Frames()
        self._outgoing = _Frames()
        self._rest = b""
        """The beginning of a frame that came, too short to say what it is."""
        self._begun = b""
        """The beginning of a frame that is written, too short to say how long it is."""
        self._due: deque[bytes] = deque(maxlen=_MOST_DUE)
        self._answered = False

    async def read(self, limit: int = 65536) -> bytes:
        while data := await self._stream.read(limit):
            passed = self._without_pings(self._rest + data)
            if self._answered:
                self._answered = False
                await self._stream.drain()  # who pings without reading is read no further
            if passed:
                return passed
        rest, self._rest = self._rest, b""
        return rest

    def _without_pings(self, data: bytes) -> bytes:
        passed: list[bytes] = []
        at = 0
        while at < len(data):
            begins = self._incoming.left == 0
            if begins and data[at : at + 4] == _PING[: len(data) - at] and len(data) - at < _PING_LENGTH:
                break
            if begins and data[at : at + 4] == _PING and data[at + _PING_LENGTH - 1] & 1:
                self._answer(int.from_bytes(data[at + _HEAD : at + _PING_LENGTH], "big"))
                at += _PING_LENGTH
                continue
            end = self._incoming.step(data, at)
            if end is None:
                break
            passed.append(data[at:end])
            at = end
        self._rest = data[at:]
        return b"".join(passed)

    def _answer(self, number: int) -> None:
        self._answered = True
        self._due.append(ping_frame(number))
        if self._outgoing.left == 0 and not self._begun:
            self._send_due()

    def _send_due(self) -> None:
        if self._due:
            self._stream.write(b"".join(self._due))
            self._due.clear()

    def write(self, data: bytes) -> None:
        """Write on, with answers that are due at the first end of a frame."""
        data, self._begun = self._begun + data, b""
        at = 0
        while at < len(data):
            end = self._outgoing.step(data, at)
            if end is None:
                self._begun = data[at:]
                break
            at = end
            if self._due and self._outgoing.left == 0:
                self._stream.write(data[:at])
                self._send_due()
                data, at = data[at:], 0
        if at:
            self._stream.write(data[:at])

    async def drain(self) -> None:
        await self._stream.drain()

    def write_eof(self) -> bool:
        self._stream.write(self._begun)
        self._begun = b""
        return self._stream.write_eof()

    def close(self) -> None:
        self._stream.write(self._begun)
        self._begun = b""
        self._stream.close()
