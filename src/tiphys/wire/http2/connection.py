"""One HTTP/2 connection of a server (RFC 9113), behind the same ``Handler`` as HTTP/1.1.

Framing, header compression and flow-control windows are the ``h2`` package's, which does no I/O; it is imported only
when a client has chosen HTTP/2 by ALPN, as client-go does. Each request is a stream with its own coroutine, and
its output waits in the stream until the client's windows have room. Upgrades do not exist here: clients that exec or
port-forward ask for HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from tiphys.wire.fieldtext import field_name, text
from tiphys.wire.http import Headers, Peer, Request, Response
from tiphys.wire.http2.guard import BODIES, HEADS, BlockDecoder, Guard
from tiphys.wire.http2.stream import ServedStream
from tiphys.wire.listening import Host
from tiphys.wire.stream import WriteGate, peer_of

log = logging.getLogger(__name__)

_WINDOW = 1024 * 1024
_WRITE_SIZE = 64 * 1024
_READ_SLICE = 16 * 1024
"""So many bytes are parsed before the guard is asked again."""


_SMALL_PIECE = 256
_COLON = ord(":")


class Http2Connection(asyncio.Protocol):
    def __init__(self, server: Host) -> None:
        self._server = server
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._gate = WriteGate()
        self._peer = Peer()
        self._streams: dict[int, ServedStream] = {}
        self._sending: deque[ServedStream] = deque()
        self._dirty = False
        self._since = server.now
        self._guard = Guard()
        self._answered_early: list[int] = []
        self._receiving = 0
        """Bytes of bodies that are not complete yet."""
        self._heads = 0
        """Bytes of the heads of all requests that are not done with."""
        self._last_stream = 0
        self._leaving = False
        self._protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self._protocol.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: server.limits.streams,
                SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: server.limits.headers,
            },
        )
        self._protocol.decoder = self._decoder = BlockDecoder(server.limits.headers, server.limits.fields + 1000)

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address, port = peer_of(transport)
        certificate, refused = transport.get_extra_info("client_certificate")
        self._peer = Peer(address, port, certificate, refused, secure=True)
        self._server.add(self)
        self._protocol.initiate_connection()
        self._protocol.increment_flow_control_window(_WINDOW)
        self._write()
        if self._server.closing:
            self.shut_down()

    def data_received(self, data: bytes) -> None:
        self._since = self._server.now
        try:
            for at in range(0, len(data), _READ_SLICE):
                for event in self._protocol.receive_data(data[at : at + _READ_SLICE]):
                    self._handle(event)
                if self._transport.is_closing():
                    return
        except h2.exceptions.ProtocolError as error:
            log.debug("HTTP/2 from %s: %s", self._peer.address, error)
            self._write()
            self._transport.close()
            return
        self._pump()

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.lose()
        self._sending.clear()
        for stream in tuple(self._streams.values()):
            stream.lose()
        self._leave_if_done()

    def pause_writing(self) -> None:
        """The client does not read: what more it asks for waits in the kernel, or its answers would pile up here."""
        self._gate.shut = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._gate.open()
        self._transport.resume_reading()
        self.flush_soon()

    # -- what comes

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._open(event)
        elif isinstance(event, h2.events.DataReceived):
            self._body(event)
        elif isinstance(event, h2.events.StreamEnded):
            if (stream := self._streams.get(event.stream_id)) is not None and stream.takes_body:
                stream.serve()
        elif isinstance(event, h2.events.StreamReset):
            if self._guard.reset():
                self._turn_away("opens and resets streams without end")
            if (stream := self._streams.get(event.stream_id)) is not None:
                stream.lose()
        elif isinstance(event, h2.events.ConnectionTerminated):  # h2 sends nothing more after it
            self._leaving = True
            for stream in tuple(self._streams.values()):
                stream.lose()
            self._leave_if_done()
        elif self._guard.idle():
            self._turn_away("sends frames without end that ask for nothing")

    def _turn_away(self, why: str) -> None:
        if not self._transport.is_closing():
            log.warning("HTTP/2 client %s %s", self._peer.address, why)
            self._transport.abort()

    def _open(self, event: h2.events.RequestReceived) -> None:
        self._last_stream = number = event.stream_id
        if self._leaving or len(self._streams) >= self._server.limits.streams:
            self._protocol.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        request, size = self._request(event.headers)
        if self._heads + size > HEADS:
            self._protocol.reset_stream(number, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        lengths = request.headers.each("content-length")  # all the same number, or h2 has refused them
        stream = self._streams[number] = ServedStream(self, number, request)
        if self._server.limits.goaway_chance > self._server.chance.random():
            self._say_goodbye()
        stream.head_size = size
        self._heads += size
        if len(event.headers) > self._server.limits.fields:
            stream.refuse(Response(431))
        elif lengths and int(lengths[0]) > self._server.limits.body:
            stream.refuse_body()
        elif request.headers.get("expect", "").lower() == "100-continue" and event.stream_ended is None:
            self._protocol.send_headers(number, [(":status", "100")])

    def _request(self, fields: list[tuple[bytes, bytes]]) -> tuple[Request, int]:
        """The request that a head makes, and the head's size in bytes."""
        pseudo: dict[bytes, str] = {}
        others: list[tuple[str, str]] = []
        size = 0
        for name, value in fields:
            size += len(name) + len(value) + 32
            if name[0] == _COLON:
                pseudo[name] = text(value)
            else:
                others.append((field_name(name), text(value)))
        headers = Headers.of(others)
        if b":authority" in pseudo:
            headers["host"] = pseudo[b":authority"]
        path, _, query = pseudo.get(b":path", "/").partition("?")
        return Request(pseudo.get(b":method", ""), path, query, headers, b"", self._peer), size

    def _body(self, event: h2.events.DataReceived) -> None:
        self._protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if len(event.data) < _SMALL_PIECE and event.stream_ended is None and self._guard.idle():
            self._turn_away("sends bodies in tiny pieces without end")
        if stream is None or not stream.takes_body:
            return
        stream.body.append(event.data)
        stream.size += len(event.data)
        self._receiving += len(event.data)
        if stream.size > self._server.limits.body:
            stream.refuse_body()
        elif self._receiving > BODIES:
            self.reset(stream.number, ErrorCodes.ENHANCE_YOUR_CALM)
            stream.lose()

    # -- what goes

    def flush_soon(self) -> None:
        """Send what streams wrote, at the end of the loop's turn."""
        if not self._dirty:
            self._dirty = True
            self._server.flush_soon(self)

    def flush(self) -> None:
        self._dirty = False
        if not self._transport.is_closing():
            self._pump()

    def send_soon(self, stream: ServedStream) -> None:
        if not stream.queued:
            stream.queued = True
            self._sending.append(stream)
        self.flush_soon()

    def _pump(self) -> None:
        """Give each stream with output a frame in its turn, while the windows and the transport have room."""
        waiting: list[ServedStream] = []
        unwritten = 0
        while self._sending and not self._gate.shut:
            stream = self._sending.popleft()
            try:
                more = stream.send_some(self._protocol)
            except h2.exceptions.ProtocolError as error:  # reset by the client a moment ago
                log.debug("stream %d: %s", stream.number, error)
                stream.lose()
                continue
            if more is None:
                waiting.append(stream)  # no window
            elif more:
                self._sending.append(stream)
            else:
                stream.queued = False
            self._guard.earned()
            unwritten += self._protocol.max_outbound_frame_size
            if unwritten > _WRITE_SIZE:
                unwritten = 0
                self._write()
        self._sending.extend(waiting)
        self._write()

    def _write(self) -> None:
        data = self._protocol.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def send_head(self, number: int, fields: list[tuple[str, str]], *, end: bool) -> None:
        self._protocol.send_headers(number, fields, end_stream=end)
        self.flush_soon()

    def reset(self, number: int, code: ErrorCodes) -> None:
        try:
            self._protocol.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            return  # closed already
        self.flush_soon()

    def stop_later(self, number: int) -> None:
        """Ask for no more of a request that is answered. Not at once: curl takes a reset for a lost answer."""
        self._answered_early.append(number)

    def received(self, stream: ServedStream) -> None:
        """The stream's body is complete, or dropped."""
        self._receiving -= stream.size
        stream.size = 0
        stream.body.clear()

    def forget(self, stream: ServedStream) -> None:
        self.received(stream)
        if self._streams.pop(stream.number, None) is not None:
            self._heads -= stream.head_size
        self._since = self._server.now
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._streams:
            return
        if self._transport.is_closing():
            self._server.remove(self)
        elif self._leaving:
            self._pump()
            self._transport.close()

    async def passed(self) -> None:
        """Wait until the transport takes more."""
        await self._gate.passed()

    @property
    def host(self) -> Host:
        return self._server

    @property
    def transport_buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    # -- what the server calls

    def sweep(self, now: float) -> None:
        limits = self._server.limits
        self._guard.sweep()
        self._decoder.refill()
        answered, self._answered_early = self._answered_early, []
        for number in answered:
            self.reset(number, ErrorCodes.NO_ERROR)
        if not self._streams and now - self._since > limits.idle_timeout:
            self.shut_down()
        for stream in tuple(self._streams.values()):
            stream.sweep(now)

    def _say_goodbye(self) -> None:
        """Let the client open no more streams here; those that are open are served to their ends."""
        if not self._leaving and not self._transport.is_closing():
            self._leaving = True
            self._write()
            # h2 sends nothing more once it has said goodbye itself, so the frame is made here.
            self._transport.write(GoAwayFrame(0, last_stream_id=self._last_stream, error_code=0).serialize())

    def shut_down(self) -> None:
        self._say_goodbye()
        for stream in tuple(self._streams.values()):
            stream.end_sink()
        self._leave_if_done()

    def abort(self) -> None:
        self._transport.abort()

    def tasks(self) -> set[asyncio.Task[None]]:
        return {stream.task for stream in self._streams.values() if stream.task is not None}
