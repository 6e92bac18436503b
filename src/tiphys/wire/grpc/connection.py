"""One connection of a gRPC server: HTTP/2 frames in and out (RFC 9113), flow control, and the life of its calls.

The common call, a small request and a small response, costs one decoded block, one eager coroutine and one write of
three frames that are ready but for their numbers. A connection that does not begin with HTTP/2's preface is handed to
an HTTP/1.1 protocol; an HTTP/2 request that is no gRPC call goes to the same ``Handler`` as that one's.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import struct
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Protocol, cast

from tiphys.wire import eager
from tiphys.wire.grpc.fields import declared_length, problem_of_request, problem_of_trailers
from tiphys.wire.grpc.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    IN_STATE,
    MAX_FRAME,
    MAX_WINDOW,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITIZED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTING_FRAME,
    SETTING_STREAMS,
    SETTING_WINDOW,
    SETTINGS,
    WINDOW_UPDATE,
    ClientStreamState,
    ConnectionLost,
    check,
    check_dependency,
    frame,
    increment,
    reset,
    settings,
    unpadded,
    without_priority,
)
from tiphys.wire.grpc.hpack import Decoder, Field, HpackError, encode
from tiphys.wire.grpc.outlet import DEFAULT_WINDOW, STREAM_WINDOW, TRAILER_BLOCK, Outlet
from tiphys.wire.grpc.stream import (
    INTERNAL,
    UNIMPLEMENTED,
    UNKNOWN,
    GrpcError,
    Rpc,
    Stream,
    decode,
)
from tiphys.wire.http import Handler, Headers, Request, Response

log = logging.getLogger(__name__)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONNECTION_WINDOW = 16 << 20
MAX_STREAMS = 4096
MAX_BLOCK = 64 * 1024
MAX_HELD = 64 << 20
"""Bytes of requests that one client may have here that no program has taken."""
_CHECKED_BLOCKS = 256
_IDLE_FRAMES = 10_000
"""Frames that ask for nothing, or a tenth as many resets, that a client may send within a second."""


class Services(Protocol):
    """The server of a connection: what it serves, and what it keeps."""

    rpcs: Mapping[str, Rpc]
    handler: Handler
    """For plain HTTP."""
    max_message: int
    loop: asyncio.AbstractEventLoop
    connections: set[GrpcConnection]

    @property
    def status_of(self) -> Callable[[Exception], tuple[int, str] | None]: ...

    def http1(self) -> asyncio.Protocol: ...


class Phase(enum.Enum):
    PREFACE = enum.auto()
    """What the client speaks is not known yet."""
    SERVING = enum.auto()
    LEAVING = enum.auto()
    """No more calls are taken."""


class GrpcConnection(Outlet):
    def __init__(self, server: Services, *, need_certificate: bool = False) -> None:
        super().__init__(server.loop)
        self._server = server
        self._need_certificate = need_certificate
        self._rest = b""
        self._phase = Phase.PREFACE
        self._decoder = Decoder()
        self._newest = 0
        self._block: tuple[int, int, bytes] | None = None
        """A header block that is not complete: its stream, flags, and bytes so far."""
        self._unacknowledged = 0
        self._checked: dict[int, list[Field]] = {}
        """Header blocks as the decoder caches them, by identity, that make requests."""
        self._idle_since = server.loop.time()

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._server.connections.add(self)
        tls = transport.get_extra_info("ssl_object")
        if self._need_certificate and (tls is None or tls.getpeercert(binary_form=True) is None):
            log.warning("a client without a certificate was turned away")
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        for stream in list(self._streams.values()):
            self._forget(stream)

    def pause_writing(self) -> None:
        """The client does not read: what more it asks for waits in the kernel, or its answers would pile up here."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
        for stream in list(self._streams.values()):
            self._release(stream)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        self._receiving = True
        try:
            at = self._greet(data) if self._phase is Phase.PREFACE else 0
            self._rest = data[self._frames(data, at) :] if at >= 0 else data
        except (ConnectionLost, HpackError) as error:
            code = error.code if isinstance(error, ConnectionLost) else COMPRESSION_ERROR
            self._write(frame(GOAWAY, 0, 0, struct.pack(">II", self._newest, code) + str(error).encode()))
            self.close()
        finally:
            self._receiving = False
            self._flush()

    def _greet(self, data: bytes) -> int:
        """Read the preface; returns if frames begin, -1 if it is not complete yet."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            self._hand_over(data)
            return -1
        if len(data) < len(PREFACE):
            return -1
        self._phase = Phase.SERVING
        own = ((SETTING_STREAMS, MAX_STREAMS), (SETTING_WINDOW, STREAM_WINDOW))
        self._write(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in own)))
        self._write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW - DEFAULT_WINDOW)))
        return len(PREFACE)

    def _hand_over(self, data: bytes) -> None:
        """Let the HTTP/1.1 protocol have the connection."""
        transport = self._transport
        assert transport is not None
        self._server.connections.discard(self)
        self._transport = None
        self._rest = b""
        successor = self._server.http1()
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(data)

    def _frames(self, data: bytes, at: int) -> int:
        """Handle the whole frames from ``at`` on; returns where the rest begins."""
        end, unpack, head_size = len(data), FRAME.unpack_from, FRAME.size
        while end - at >= head_size and self._transport is not None:
            head, flags, id = unpack(data, at)
            start = at + head_size
            stop = start + (head >> 8)
            if stop - start > MAX_FRAME:
                raise ConnectionLost(FRAME_SIZE_ERROR, f"a frame of {stop - start} bytes")
            if stop > end:
                break
            at = stop
            kind = head & 0xFF
            id &= MAX_WINDOW
            if self._block is not None and kind != CONTINUATION:
                raise ConnectionLost(PROTOCOL_ERROR, "a header block that is interrupted")
            if kind < len(_HANDLERS):
                check(kind, id, stop - start)
                _HANDLERS[kind](self, id, flags, data[start:stop])
            else:
                self._nothing(id, flags, b"")
        return at

    def _state(self, id: int) -> ClientStreamState:
        stream = self._streams.get(id)
        if stream is not None:
            return ClientStreamState.ENDED if stream.ended else ClientStreamState.OPEN
        if id > self._newest:
            return ClientStreamState.IDLE
        return ClientStreamState.LET_GO if id in self._let_go else ClientStreamState.CLOSED

    def _has_place(self, kind: int, id: int) -> bool:
        """Whether a frame is to be handled in its stream's state; else it is answered, ignored, or the end."""
        state = self._state(id)
        reaction = IN_STATE[state].get(kind)
        if reaction is None:
            return True
        if reaction.code is not None and reaction.connection:
            raise ConnectionLost(
                reaction.code, f"a frame of kind {kind} for stream {id}, which is {state.name.lower()}"
            )
        if reaction.code is not None:
            self._break_off(id, reaction.code)
        return False

    def _count_idle(self, weight: int = 1) -> None:
        """A frame that asks for nothing. Raises ``ConnectionLost`` if there is no end of them."""
        self._idle += weight
        if self._idle > _IDLE_FRAMES:
            now = self._loop.time()
            if now - self._idle_since < 1.0:
                raise ConnectionLost(ENHANCE_YOUR_CALM, "frames without end that ask for nothing")
            self._idle, self._idle_since = 0, now

    # What the client says

    def _headers(self, id: int, flags: int, block: bytes) -> None:
        if not id % 2:
            raise ConnectionLost(PROTOCOL_ERROR, f"a call with the number {id}")
        if flags & PADDED:
            block = unpadded(block)
        self._header_block(id, flags, without_priority(id, block) if flags & PRIORITIZED else block)

    def _continuation(self, id: int, flags: int, block: bytes) -> None:
        if self._block is None or self._block[0] != id:
            raise ConnectionLost(PROTOCOL_ERROR, "a continuation of nothing")
        self._count_idle()
        self._header_block(id, self._block[1] | flags & END_HEADERS, self._block[2] + block)

    def _header_block(self, id: int, flags: int, block: bytes) -> None:
        """Handle a whole header block: open a call, or end one with trailers."""
        if len(block) > MAX_BLOCK:
            raise ConnectionLost(ENHANCE_YOUR_CALM, "a header block that is too long")
        if not flags & END_HEADERS:
            self._block = id, flags, block
            return
        self._block = None
        fields = self._decoder.decode(block)
        if id <= self._newest and not self._has_place(HEADERS, id):
            return
        stream = self._streams.get(id)
        if stream is not None:
            problem = "trailers that do not end the request" if not flags & END_STREAM else problem_of_trailers(fields)
        else:
            self._newest = id
            problem = "" if _identity(fields) in self._checked else self._problem(fields)
        if problem:
            log.debug("stream %d: %s", id, problem)
            self._break_off(id, PROTOCOL_ERROR)
            return
        if stream is None:
            stream = self._open(id, fields)
        if flags & END_STREAM and stream is not None:
            self._client_ended(stream)

    def _problem(self, fields: list[Field]) -> str:
        problem = problem_of_request(fields)
        if not problem:
            if len(self._checked) >= _CHECKED_BLOCKS:
                self._checked.clear()
            self._checked[_identity(fields)] = fields  # kept, so that no other list gets its identity
        return problem

    def _open(self, id: int, fields: list[tuple[str, str]]) -> Stream | None:
        if len(self._streams) >= MAX_STREAMS or self._phase is Phase.LEAVING:
            self._break_off(id, REFUSED_STREAM)  # the client may try again
            return None
        path = kind = ""
        for name, value in fields:
            if name == ":path":
                path = value
            elif name == "content-type":
                kind = value
        is_call = kind.startswith("application/grpc")
        rpc = self._server.rpcs.get(path) if is_call else None
        stream = self._streams[id] = Stream(self, id, rpc, fields)
        if is_call and rpc is None:
            self.fail(stream, UNIMPLEMENTED, f"unknown method {path}")
            return None
        if rpc is not None and rpc.request_stream:
            self._start(stream, self._streaming(stream, rpc))
        return stream

    def _data(self, id: int, flags: int, payload: bytes) -> None:
        """Handle a DATA frame: flow control, then the call's messages."""
        self._unacknowledged += len(payload)
        if self._unacknowledged > CONNECTION_WINDOW // 4:
            self._write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unacknowledged)))
            self._unacknowledged = 0
        stream = self._streams.get(id)
        if (stream is None or stream.ended) and not self._has_place(DATA, id):
            return
        assert stream is not None
        if flags & PADDED:
            payload = unpadded(payload)
        if not payload and not flags & END_STREAM:
            self._count_idle()
        self._hold(stream, len(payload))
        if len(stream.body) + len(payload) > STREAM_WINDOW:
            raise ConnectionLost(FLOW_CONTROL_ERROR, "more data than there was room for")
        if stream.rpc is None:
            stream.body += payload
        else:
            try:
                stream.receive(payload, self._server.max_message)
            except GrpcError as error:
                self.fail(stream, error.code, str(error))
                return
            if stream.rpc.request_stream:
                stream.wake()
        if flags & END_STREAM:
            self._client_ended(stream)

    def _hold(self, stream: Stream, size: int) -> None:
        stream.received += size
        stream.held += size
        self._held += size
        if self._held > MAX_HELD:
            raise ConnectionLost(ENHANCE_YOUR_CALM, "more requests than there is room for")

    def _client_ended(self, stream: Stream) -> None:
        stream.ended = True
        declared = declared_length(stream.headers)
        if declared is not None and declared != stream.received:
            self._break_off(stream.id, PROTOCOL_ERROR)
            return
        rpc = stream.rpc
        if rpc is None:
            self._start(stream, self._plain(stream))
        elif rpc.request_stream:
            stream.wake()
        elif len(stream.messages) != 1:
            self.fail(stream, INTERNAL, "grpc: a unary call needs one request")
        elif rpc.response_stream:
            self._start(stream, self._streaming(stream, rpc))
        else:
            self._start(stream, self._unary(stream, rpc))

    def _settings(self, _: int, flags: int, payload: bytes) -> None:
        self._count_idle()
        if flags & ACK:
            if payload:
                raise ConnectionLost(FRAME_SIZE_ERROR, "an acknowledgement with settings in it")
            return
        changed = settings(payload)
        self._write(frame(SETTINGS, ACK, 0))  # before any data that the new settings allow, or it comes too early
        if SETTING_FRAME in changed:
            self._max_frame = min(changed[SETTING_FRAME], 1 << 20)
        if SETTING_WINDOW in changed:
            change = changed[SETTING_WINDOW] - self.initial_window
            self.initial_window = changed[SETTING_WINDOW]
            for call in list(self._streams.values()):
                call.window += change
                if call.window > MAX_WINDOW:
                    raise ConnectionLost(FLOW_CONTROL_ERROR, "a window that is too large")
                self._push(call)

    def _window_update(self, id: int, _: int, payload: bytes) -> None:
        amount = increment(payload)
        if id == 0:
            self._widen(amount)
        elif self._has_place(WINDOW_UPDATE, id) and (stream := self._streams.get(id)) is not None:
            stream.window += amount
            if amount == 0 or stream.window > MAX_WINDOW:
                self._break_off(id, FLOW_CONTROL_ERROR if amount else PROTOCOL_ERROR)
            elif stream.outgoing:
                self._push(stream)
            else:
                self._count_idle()

    def _widen(self, amount: int) -> None:
        if amount == 0:
            raise ConnectionLost(PROTOCOL_ERROR, "a window update of 0")
        was_shut = self._window <= 0
        self._window += amount
        if self._window > MAX_WINDOW:
            raise ConnectionLost(FLOW_CONTROL_ERROR, "a window that is too large")
        if was_shut:
            for call in list(self._streams.values()):
                if call.outgoing:
                    self._push(call)
        elif not self._streams:
            self._count_idle()

    def _ping(self, _: int, flags: int, payload: bytes) -> None:
        self._count_idle()
        if not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))

    def _reset(self, id: int, _: int, __: bytes) -> None:
        if self._has_place(RST_STREAM, id) and (stream := self._streams.get(id)) is not None:
            self._count_idle(weight=10)
            self._forget(stream)

    def _priority(self, id: int, _: int, payload: bytes) -> None:
        self._count_idle()
        check_dependency(id, payload)

    def _push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionLost(PROTOCOL_ERROR, "a push from a client")

    def _nothing(self, _: int, __: int, ___: bytes) -> None:
        """Frames that need no answer."""
        self._count_idle()

    def _break_off(self, id: int, code: int) -> None:
        """A stream cannot continue; what is on its way for it is ignored."""
        self._write(reset(id, code))
        self._release_later(id)
        stream = self._streams.get(id)
        if stream is not None:
            self._forget(stream)

    # Running calls

    def _start(self, stream: Stream, work: Coroutine[Any, Any, None]) -> None:
        stream.task = eager.start(self._loop, work)

    async def _unary(self, stream: Stream, rpc: Rpc) -> None:
        try:
            response = await rpc.work(decode(rpc, stream.messages.pop(0)))
        except Exception as error:  # noqa: BLE001 - every call gets an answer; what is not known is logged
            self._fail_with(stream, error)
            return
        self._respond(stream, rpc.encode(response))

    async def _streaming(self, stream: Stream, rpc: Rpc) -> None:
        request: Any = stream.requests() if rpc.request_stream else None
        try:
            if request is None:
                request = decode(rpc, stream.messages.pop(0))
            async with aclosing(rpc.work(request)) as responses:
                async for response in responses:
                    await stream.send(rpc.encode(response))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail_with(stream, error)
            return
        self._finish(stream, TRAILER_BLOCK)

    async def _plain(self, stream: Stream) -> None:
        """A request without gRPC: the HTTP handler's."""
        fields = dict(stream.headers)
        path, _, query = fields.get(":path", "/").partition("?")
        headers = Headers.of([field for field in stream.headers if not field[0].startswith(":")])
        request = Request(fields.get(":method", "GET"), path, query, headers, bytes(stream.body))
        try:
            response = await self._server.handler(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = Response(500, {"Content-Type": "text/plain; charset=utf-8"}, b"Internal Server Error\n")
        if stream.id not in self._streams:
            return  # the client has given up
        body = response.body if isinstance(response.body, bytes) else b""
        block = encode(
            [
                (":status", str(response.status)),
                ("content-length", str(len(body))),
                *((name.lower(), value) for name, value in response.headers.items()),
            ]
        )
        stream.started = True
        self._write(frame(HEADERS, END_HEADERS if body else END_HEADERS | END_STREAM, stream.id, block))
        if body:
            stream.outgoing += body
            stream.trailers = b""
            self._push(stream)
        else:
            self._done(stream)

    def _fail_with(self, stream: Stream, error: Exception) -> None:
        status = (error.code, str(error)) if isinstance(error, GrpcError) else self._server.status_of(error)
        if status is None:
            log.error("a gRPC call failed", exc_info=error)
            status = UNKNOWN, "internal error"
        self.fail(stream, *status)

    # The end

    def shut_down(self) -> None:
        """Take no more calls."""
        greeted, self._phase = self._phase is not Phase.PREFACE, Phase.LEAVING
        if greeted:
            self._write(frame(GOAWAY, 0, 0, struct.pack(">II", self._newest, NO_ERROR)))

    def tasks(self) -> list[asyncio.Task[None]]:
        return [stream.task for stream in self._streams.values() if stream.task is not None and not stream.task.done()]

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()


_identity = id  # the name is taken by what HTTP/2 calls a stream's

_HANDLERS: tuple[Callable[[GrpcConnection, int, int, bytes], None], ...] = (
    GrpcConnection._data,
    GrpcConnection._headers,
    GrpcConnection._priority,
    GrpcConnection._reset,
    GrpcConnection._settings,
    GrpcConnection._push_promise,
    GrpcConnection._ping,
    GrpcConnection._nothing,  # the client goes away, when it has its answers
    GrpcConnection._window_update,
    GrpcConnection._continuation,
)
"""What a frame does, by its kind; other kinds are ignored, as the protocol wants it."""
