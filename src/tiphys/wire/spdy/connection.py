"""A SPDY/3.1 connection over a ``ByteStream``: many streams, in both directions, each with its headers.

    connection = SpdyConnection(stream, server=False)
    task = group.create_task(connection.run())          # reads frames until the connection ends
    stdin = await connection.open({"streamtype": "stdin"})
    stdin.write(b"ls\n"); await stdin.drain(); stdin.close()

Flow control: Go's spdystream, which kubectl, the kubelet and containerd use, neither sends nor heeds window updates.
So a window bounds what is sent only once the other side has shown that it knows windows (by a WINDOW_UPDATE or an
own initial window). What is received is bounded in any case: if a reader is slow, frames wait unread in the
transport, as they do in spdystream; windows are granted as data is taken, unless the other side is known to be
spdystream (``grants=False``): what it has closed must not be written to (see ``spdy.pings``).

Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping

from tiphys.wire.http import ByteStream
from tiphys.wire.memory import Signal
from tiphys.wire.spdy.frames import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    INITIAL_WINDOW,
    Frame,
    FrameKind,
    Reader,
    ResetStatus,
    SpdyError,
    Writer,
    data_frame,
    goaway_frame,
    ping_frame,
    reset_frame,
    window_update_frame,
)
from tiphys.wire.states import States

log = logging.getLogger(__name__)

_HIGH_WATER = 256 * 1024
_DATA_PIECE = 32 * 1024
_MAX_STREAMS = 1000

Accept = Callable[["SpdyStream"], None]


class StreamState(enum.Enum):
    OPEN = enum.auto()
    ENDED = enum.auto()
    """The other side has sent all."""
    FINISHED = enum.auto()
    """This side has sent all."""
    OVER = enum.auto()
    """Both have."""
    RESET = enum.auto()
    """Cut by either side, or with the connection."""


class StreamEvent(enum.Enum):
    FIN_RECEIVED = enum.auto()
    FIN_SENT = enum.auto()
    CUT = enum.auto()


STREAM: Mapping[StreamState, Mapping[StreamEvent, StreamState]] = {
    StreamState.OPEN: {
        StreamEvent.FIN_RECEIVED: StreamState.ENDED,
        StreamEvent.FIN_SENT: StreamState.FINISHED,
        StreamEvent.CUT: StreamState.RESET,
    },
    StreamState.ENDED: {
        StreamEvent.FIN_RECEIVED: StreamState.ENDED,
        StreamEvent.FIN_SENT: StreamState.OVER,
        StreamEvent.CUT: StreamState.RESET,
    },
    StreamState.FINISHED: {
        StreamEvent.FIN_RECEIVED: StreamState.OVER,
        StreamEvent.FIN_SENT: StreamState.FINISHED,
        StreamEvent.CUT: StreamState.RESET,
    },
    StreamState.OVER: dict.fromkeys(StreamEvent, StreamState.OVER),
    StreamState.RESET: dict.fromkeys(StreamEvent, StreamState.RESET),
}
_ALL_RECEIVED = frozenset((StreamState.ENDED, StreamState.OVER, StreamState.RESET))
_ALL_SENT = frozenset((StreamState.FINISHED, StreamState.OVER, StreamState.RESET))
_GONE = frozenset((StreamState.OVER, StreamState.RESET))


class Phase(enum.Enum):
    """Of a connection."""

    OPEN = enum.auto()
    LEAVING = enum.auto()
    """This side has said goodbye: no more streams, those open continue."""
    LEFT = enum.auto()
    """The other side has."""
    CLOSED = enum.auto()


class SpdyStream:
    """One stream. ``headers`` are those that it was opened with. One reader at a time."""

    def __init__(self, connection: SpdyConnection, number: int, headers: Mapping[str, str]) -> None:
        self.id = number
        self.headers = headers
        self._connection = connection
        self._received = bytearray()
        self._changed = Signal()
        self._state: States[StreamState, StreamEvent] = States(STREAM, StreamState.OPEN)
        self._replied = False
        self._window = connection._initial_window
        self._ungranted = 0

    @property
    def was_reset(self) -> bool:
        """Whether it was cut, by either side or with the connection, in place of ending."""
        return self._state.now is StreamState.RESET

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes; ``b""`` at the end, which a reset is too."""
        while not self._received and self._state.now not in _ALL_RECEIVED:
            await self._changed.wait()
        data = bytes(self._received[:limit])
        del self._received[:limit]
        if data:
            self._connection._taken(self, len(data))
        return data

    def write(self, data: bytes) -> None:
        """Send; dropped after ``close`` or a reset."""
        if self._state.now in _ALL_SENT:
            return
        self._window -= len(data)
        for at in range(0, len(data), _DATA_PIECE):
            self._connection._send(data_frame(self.id, data[at : at + _DATA_PIECE]))

    async def drain(self) -> None:
        """Wait until the other side takes more. Raises ConnectionError if the stream or connection is gone."""
        while self._connection._windowed and self._window <= 0 and not self.was_reset:
            await self._changed.wait()
        if self.was_reset:
            raise ConnectionResetError("stream reset")
        await self._connection._drain()

    def write_eof(self) -> bool:
        """This side has sent all; the other may continue."""
        if self._state.now not in _ALL_SENT:
            self._state.step(StreamEvent.FIN_SENT)
            self._connection._send(data_frame(self.id, b"", fin=True))
            self._connection._forget_if_over(self)
        return True

    def close(self) -> None:
        """As spdystream's Close: finish this side, whatever the other still sends."""
        self.write_eof()

    def reset(self, status: ResetStatus = ResetStatus.CANCEL) -> None:
        """End both directions at once."""
        if self._state.now not in _GONE:
            self._connection._send(reset_frame(self.id, status))
        self._cut()

    def reply(self) -> None:
        """Accept a stream that the other side opened."""
        if not self._replied:
            self._replied = True
            self._connection._reply(self)

    # -- what the connection calls

    def _feed(self, data: bytes, *, fin: bool) -> None:
        if self._state.now not in _ALL_RECEIVED:
            self._received += data
        if fin:
            self._state.step(StreamEvent.FIN_RECEIVED)
        self._changed.notify()

    def _cut(self) -> None:
        self._state.step(StreamEvent.CUT)
        self._changed.notify()
        self._connection._forget_if_over(self)


class SpdyConnection:
    """One side of a connection. ``accept`` is given each stream that the other side opens, before it is answered:

    it may keep the stream (answered at once) or call its ``reset``. Without it, streams are refused.
    """

    def __init__(self, stream: ByteStream, *, server: bool, accept: Accept | None = None, grants: bool = True) -> None:
        self._stream = stream
        self._grants = grants
        self._accept = accept
        self._reader = Reader()
        self._writer = Writer()
        self._streams: dict[int, SpdyStream] = {}
        self._next = 2 if server else 1
        self._parity = self._next & 1
        self._last_received = 0
        self._next_ping = self._next
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._changed = Signal()
        self._initial_window = INITIAL_WINDOW
        self._windowed = False
        self._phase = Phase.OPEN

    @property
    def closed(self) -> bool:
        return self._phase is Phase.CLOSED

    async def run(self) -> None:
        """Read frames until the connection ends, or the other side says goodbye; then every stream has ended."""
        try:
            while not self.closed and (data := await self._stream.read()):
                for frame in self._reader.feed(data):
                    self._handle(frame)
                await self._hold_back()
        except SpdyError as error:
            log.debug("SPDY connection: %s", error)
            self._send(goaway_frame(self._last_received, 1))
        except ConnectionError as error:
            log.debug("SPDY connection: %s", error)
        finally:
            self.close()

    async def _hold_back(self) -> None:
        """Read no further while a stream's reader is behind."""
        while not self.closed and any(len(stream._received) > _HIGH_WATER for stream in self._streams.values()):
            await self._changed.wait()

    async def open(self, headers: Mapping[str, str], timeout: float = 30.0) -> SpdyStream:
        """Open a stream and wait until the other side accepts it. Raises ConnectionError, TimeoutError."""
        if self._phase is not Phase.OPEN:
            raise ConnectionResetError("connection closed")
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = SpdyStream(self, number, dict(headers))
        self._send(self._writer.syn_stream(number, headers))
        try:
            async with asyncio.timeout(timeout):
                while not stream._replied and not stream.was_reset and not self.closed:
                    await stream._changed.wait()
        except BaseException:
            stream.reset()
            raise
        if not stream._replied:
            raise ConnectionResetError("stream reset")
        return stream  # perhaps reset since, but what it carried before can be read

    async def ping(self) -> None:
        """Wait for the answer to a ping. Raises ConnectionError."""
        if self.closed:
            raise ConnectionResetError("connection closed")
        number, self._next_ping = self._next_ping, self._next_ping + 2
        answered = self._pings[number] = asyncio.get_running_loop().create_future()
        self._send(ping_frame(number))
        try:
            await answered
        finally:
            self._pings.pop(number, None)

    def go_away(self) -> None:
        """Say goodbye: no more streams; those open continue."""
        if self._phase is Phase.OPEN:
            self._phase = Phase.LEAVING
            self._send(goaway_frame(self._last_received))

    def close(self) -> None:
        """Say goodbye, end every stream, close the connection."""
        if self.closed:
            return
        self.go_away()
        self._phase = Phase.CLOSED
        for stream in tuple(self._streams.values()):
            stream._cut()
        for answered in self._pings.values():
            if not answered.done():
                answered.set_exception(ConnectionResetError("connection closed"))
        self._changed.notify()
        self._stream.close()

    # -- frames received

    def _handle(self, frame: Frame) -> None:
        """Dispatch a frame by its kind."""
        kind = frame.kind
        if kind is FrameKind.DATA:
            self._data(frame)
        elif kind is FrameKind.SYN_STREAM:
            self._opened(frame)
        elif kind is FrameKind.PING:
            self._pinged(frame.value)
        elif kind is FrameKind.SETTINGS:
            self._windowed = True
            for stream in self._streams.values():
                stream._window += frame.value - self._initial_window
                stream._changed.notify()
            self._initial_window = frame.value
        elif kind is FrameKind.GOAWAY:
            if not self.closed:
                self._phase = Phase.LEFT
            if not self._streams:
                self.close()
        elif (stream_ := self._streams.get(frame.stream)) is not None:
            self._about_stream(stream_, frame)
        elif kind is FrameKind.WINDOW_UPDATE:
            self._windowed = True

    def _about_stream(self, stream: SpdyStream, frame: Frame) -> None:
        if frame.kind is FrameKind.RST_STREAM:
            stream._cut()
        elif frame.kind is FrameKind.WINDOW_UPDATE:
            self._windowed = True
            stream._window += frame.value
            stream._changed.notify()
        else:  # SYN_REPLY, HEADERS
            stream._replied = True
            stream._feed(b"", fin=bool(frame.flags & FLAG_FIN))
            self._forget_if_over(stream)

    def _data(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # reset by us a moment ago
        stream._feed(frame.data, fin=bool(frame.flags & FLAG_FIN))
        self._forget_if_over(stream)

    def _opened(self, frame: Frame) -> None:
        number = frame.stream
        if number & 1 == self._parity or number <= self._last_received or self._phase is not Phase.OPEN:
            self._send(reset_frame(number, ResetStatus.PROTOCOL_ERROR))
            return
        self._last_received = number
        if self._accept is None or len(self._streams) >= _MAX_STREAMS:
            self._send(reset_frame(number, ResetStatus.REFUSED_STREAM))
            return
        stream = self._streams[number] = SpdyStream(self, number, frame.headers or {})
        if frame.flags & FLAG_FIN:
            stream._state.step(StreamEvent.FIN_RECEIVED)
        if frame.flags & FLAG_UNIDIRECTIONAL:
            stream._state.step(StreamEvent.FIN_SENT)
        self._accept(stream)
        if not stream.was_reset:
            stream.reply()

    def _pinged(self, number: int) -> None:
        if number & 1 != self._parity:
            self._send(ping_frame(number))
        elif (answered := self._pings.get(number)) is not None and not answered.done():
            answered.set_result(None)

    # -- what streams call

    def _send(self, frame: bytes) -> None:
        if not self.closed:
            self._stream.write(frame)

    def _reply(self, stream: SpdyStream) -> None:
        self._send(self._writer.syn_reply(stream.id, {}))

    async def _drain(self) -> None:
        if self.closed:
            raise ConnectionResetError("connection closed")
        await self._stream.drain()

    def _taken(self, stream: SpdyStream, size: int) -> None:
        """A reader took bytes: grant the other side as many, in halves of a window."""
        stream._ungranted += size
        if self._grants and stream._ungranted >= INITIAL_WINDOW // 2 and stream._state.now not in _ALL_RECEIVED:
            self._send(window_update_frame(stream.id, stream._ungranted))
            stream._ungranted = 0
        self._changed.notify()

    def _forget_if_over(self, stream: SpdyStream) -> None:
        if stream._state.now in _GONE and self._streams.pop(stream.id, None) is not None:
            self._changed.notify()
            if self._phase is Phase.LEFT and not self._streams:
                self.close()
