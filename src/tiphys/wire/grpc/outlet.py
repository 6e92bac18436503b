"""The sending half of a gRPC connection: flow control, responses in as few pieces as they can be, and endings.

Source: RFC 9113, section 5.2
"""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import quote

from tiphys.wire.grpc.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_FRAME,
    NO_ERROR,
    WINDOW_UPDATE,
    frame,
    reset,
)
from tiphys.wire.grpc.hpack import encode
from tiphys.wire.grpc.stream import BUFFERED, Stream

DEFAULT_WINDOW = 65535
STREAM_WINDOW = 4 << 20
"""What a client may send ahead on one call; more than a whole request, so that unary calls need no updates."""
JOINED = 16 * 1024
"""Messages from this size on are not copied once more to be in one piece with their frames."""
_LET_GO = 4096
"""Of so many streams that this side has reset it is known that what comes for them was on its way."""

_HEAD_BLOCK = b"\x88" + encode([("content-type", "application/grpc")])
TRAILER_BLOCK = encode([("grpc-status", "0")])
_RESPONSE_HEAD = struct.Struct(f">IBI{len(_HEAD_BLOCK)}sIBIBI")
"""All before the message: a frame of headers, a data frame's head, and gRPC's prefix."""
_RESPONSE_TAIL = struct.Struct(f">IBI{len(TRAILER_BLOCK)}s")
_HEAD = len(_HEAD_BLOCK) << 8 | HEADERS, END_HEADERS
_TAIL = len(TRAILER_BLOCK) << 8 | HEADERS, END_HEADERS | END_STREAM


class Outlet(asyncio.Protocol):
    """Keeps the calls that are not over, and what is to be sent for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.initial_window = DEFAULT_WINDOW
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._let_go: dict[int, None] = {}
        """Streams that this side has reset, the newest of them."""
        self._window = DEFAULT_WINDOW
        self._max_frame = MAX_FRAME
        self._out: list[bytes] = []
        self._receiving = False
        """Whether what is written goes out when the bytes that have come in are dealt with, which is soon."""
        self._paused = False
        self._held = 0
        """Bytes of requests that no program has taken."""
        self._idle = 0
        """Frames that requested nothing, of late."""

    def _respond(self, stream: Stream, message: bytes) -> None:
        """The response of a unary call, all at once if it fits."""
        size = len(message) + 5
        if size > stream.window or size > self._window or size > self._max_frame:
            self.send(stream, message)
            self._finish(stream, TRAILER_BLOCK)
            return
        if not self._drop(stream):
            return  # the client has given up
        self._window -= size
        self._earned()
        id = stream.id
        head = _RESPONSE_HEAD.pack(*_HEAD, id, _HEAD_BLOCK, size << 8 | DATA, 0, id, 0, len(message))
        tail = _RESPONSE_TAIL.pack(*_TAIL, id, TRAILER_BLOCK)
        if size < JOINED:
            self._write(head + message + tail)
        else:
            self._write(head)
            self._out += (message, tail)

    def send(self, stream: Stream, message: bytes) -> None:
        """Put one message on its way."""
        if stream.id not in self._streams:
            return
        if not stream.started:
            stream.started = True
            self._write(frame(HEADERS, END_HEADERS, stream.id, _HEAD_BLOCK))
        stream.outgoing += len(message).to_bytes(5, "big")
        stream.outgoing += message
        self._push(stream)

    async def drained(self, stream: Stream) -> None:
        """Wait until the call may send more."""
        while stream.id in self._streams and (self._paused or len(stream.outgoing) > BUFFERED):
            waiter = self._loop.create_future()
            stream.writers.append(waiter)
            await waiter

    def fail(self, stream: Stream, code: int, message: str) -> None:
        """End a call with a status that is not OK."""
        fields = [("grpc-status", str(code)), ("grpc-message", quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"))]
        if stream.started:
            self._finish(stream, encode(fields))
        elif self._drop(stream):
            self._write(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, _HEAD_BLOCK + encode(fields)))
            self._reset_rest(stream)

    def _finish(self, stream: Stream, trailers: bytes) -> None:
        if not stream.started:
            stream.started = True
            self._write(frame(HEADERS, END_HEADERS, stream.id, _HEAD_BLOCK))
        stream.trailers = trailers
        self._push(stream)

    def _push(self, stream: Stream) -> None:
        """Send as much of a call's outgoing bytes as flow control allows, and its trailers after them."""
        outgoing = stream.outgoing
        while outgoing:
            size = min(len(outgoing), self._max_frame, self._window, stream.window)
            if size <= 0:
                return
            last = stream.trailers == b"" and size == len(outgoing)  # plain HTTP has no trailers
            self._write(frame(DATA, END_STREAM if last else 0, stream.id, bytes(outgoing[:size])))
            del outgoing[:size]
            self._earned()
            self._window -= size
            stream.window -= size
        if stream.trailers is not None and stream.id in self._streams:
            if stream.trailers:
                self._write(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers))
            self._done(stream)
        self._release(stream)

    def _release(self, stream: Stream) -> None:
        """Let those continue who wait to send."""
        if stream.writers and not self._paused and len(stream.outgoing) <= BUFFERED:
            writers, stream.writers = stream.writers, []
            for waiter in writers:
                if not waiter.done():
                    waiter.set_result(None)

    def _done(self, stream: Stream) -> None:
        """The server has said all."""
        self._drop(stream)
        self._reset_rest(stream)

    def _reset_rest(self, stream: Stream) -> None:
        """Signal to a client that is still sending that nobody listens."""
        if not stream.ended:
            self._write(reset(stream.id, NO_ERROR))
            self._release_later(stream.id)
            stream.ended = True
            stream.wake()

    def _drop(self, stream: Stream) -> bool:
        """The stream is over; whether it was not before."""
        self._held -= stream.held
        stream.held = 0
        return self._streams.pop(stream.id, None) is not None

    def _forget(self, stream: Stream) -> None:
        """The client has given the call up, or is gone."""
        self._drop(stream)
        if stream.task is not None:
            stream.task.cancel()

    def consumed(self, stream: Stream, size: int) -> None:
        """The program has read a message; give the client room for more."""
        stream.unacknowledged += size
        freed = min(size, stream.held)
        stream.held -= freed
        self._held -= freed
        if stream.unacknowledged > STREAM_WINDOW // 4 and not stream.ended:
            self._write(frame(WINDOW_UPDATE, 0, stream.id, struct.pack(">I", stream.unacknowledged)))
            stream.unacknowledged = 0

    def _write(self, data: bytes) -> None:
        """Send at the end of this turn of the loop, together with what else there is."""
        if not self._out and not self._receiving:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            if self._transport is not None:
                self._transport.writelines(out)

    def _release_later(self, id: int) -> None:
        self._let_go[id] = None
        if len(self._let_go) > _LET_GO:
            del self._let_go[next(iter(self._let_go))]

    def _earned(self) -> None:
        """The client was sent data, and may answer that with a window update."""
        if self._idle:
            self._idle -= 1
