"""One HTTP/1.1 connection of a server (RFC 9110, 9112): requests in, responses out in their order.

The parser (llhttp, by httptools) fills a queue of requests; ``_pump`` serves them one after the other, as pipelined
requests are answered in order. A request is served by one coroutine, ``_serve``, which runs to its end at once if
nothing makes it wait, and as a task of this connection if something does. After a 101 answer the bytes no longer
pass the parser, but go to a ``TransportStream``.

What the parser refuses (both Content-Length and Transfer-Encoding, bad framing, bad characters) is answered with
400 and a close, in Go's words; oversized heads with 431, oversized bodies by the server's ``oversized`` handler.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tiphys.wire import eager
from tiphys.wire.fieldtext import read_fields, text
from tiphys.wire.http import Headers, Peer, Request, Response, Stream, Upgrade
from tiphys.wire.http1.exchange import ChunkSink, Exchange, Mode, Stage, Turn
from tiphys.wire.http1.framing import CONTINUE, LAST_CHUNK, response_head
from tiphys.wire.http1.knownhead import KnownHead, known_head
from tiphys.wire.listening import Host
from tiphys.wire.parting import part
from tiphys.wire.stream import ReadGate, TransportStream, WriteGate, peer_of

log = logging.getLogger(__name__)

_JOIN_LIMIT = 64 * 1024
"""Up to here, copying head and body together is cheaper than a second record and system call."""
_IDLE, _HEAD, _BODY = Stage.IDLE, Stage.HEAD, Stage.BODY
_RAW, _UNDECIDED, _REFUSED = Stage.RAW, Stage.UNDECIDED, Stage.REFUSED
_PLAIN, _UPGRADE = Mode.PLAIN, Mode.UPGRADE
_FREE, _INLINE, _AWAY = Turn.FREE, Turn.INLINE, Turn.AWAY
# A global is read in 5 ns, a member of its enum, as Python 3.11 has it, in 100.
_METHODS = {name.encode(): name for name in ("GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS")}


class Http1Connection(asyncio.Protocol):
    __slots__ = (
        "_aside",
        "_body",
        "_body_size",
        "_continue_due",
        "_ended",
        "_field_count",
        "_field_size",
        "_fields",
        "_gate",
        "_head_size",
        "_headers",
        "_http10",
        "_keep_alive",
        "_known",
        "_limits",
        "_loop",
        "_method",
        "_mode",
        "_parser",
        "_peer",
        "_pending",
        "_pending_size",
        "_queue",
        "_raw",
        "_reading",
        "_server",
        "_since",
        "_sink",
        "_stage",
        "_stalled_at",
        "_task",
        "_transport",
        "_turn",
        "_url",
    )

    def __init__(self, server: Host) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = server.loop
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = HttpRequestParser(self)
        self._gate = WriteGate()
        self._stage = _IDLE
        self._since = server.now
        self._stalled_at = 0
        self._queue: deque[Exchange] = deque()
        self._turn = _FREE
        self._reading: ReadGate = cast(ReadGate, None)
        self._ended = self._continue_due = False
        self._task: asyncio.Task[None] | None = None
        self._sink: ChunkSink | None = None
        self._raw: TransportStream | None = None
        self._aside = b""
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._peer = Peer()
        self._known: KnownHead | None = None
        # the request being parsed
        self._method = ""
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._headers = Headers()
        self._body: bytes | list[bytes] = b""
        self._body_size = self._head_size = self._field_size = self._field_count = 0
        self._keep_alive = True
        self._http10 = False
        self._mode = _PLAIN

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the peer and its certificate, and hand the connection to HTTP/2 if ALPN chose it."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = cast(asyncio.Transport, transport)
        self._reading = ReadGate(self._transport)
        address, port = peer_of(transport)
        certificate, refused = None, ""
        if (tls := transport.get_extra_info("ssl_object")) is not None:
            if tls.selected_alpn_protocol() == "h2":
                self._speak_http2()
                return
            shown = transport.get_extra_info("client_certificate")  # None: asyncio's TLS, which has verified it
            certificate, refused = shown or (tls.getpeercert(binary_form=True), "")
        self._peer = Peer(address, port, certificate, refused, secure=self._server.secure)
        self._server.add(self)
        if self._server.closing:
            self._transport.close()

    def _speak_http2(self) -> None:
        from tiphys.wire.http2.connection import Http2Connection  # 20 ms and 3 MB, only for clients that ask for it

        successor = Http2Connection(self._server)
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        stage = self._stage
        if stage is _RAW:
            cast(TransportStream, self._raw).feed(data)
        elif stage is _UNDECIDED:
            self._set_aside(data)
        elif stage is not _REFUSED:
            if stage is not _IDLE:
                self._parse(data)
            elif self._known is None or self._queue or not self._repeats(self._known, data):
                self._parse_first(data)
            if self._queue and self._turn is _FREE:
                self._pump()

    def eof_received(self) -> bool:
        if self._raw is not None:
            self._raw.feed_eof()
            return True
        # Only half-closed, or gone? As in Go, what still waits for something is given up, what is ready is delivered.
        self._flush_now()
        self._ended = bool(self._queue) and self._turn is _FREE and not self._server.secure
        return self._ended

    def connection_lost(self, error: Exception | None) -> None:
        """End what the connection carried: the sink, the raw stream, and the running handler's task."""
        self._stage = _REFUSED
        self._ended = True
        self._queue.clear()
        self._pending.clear()
        self._pending_size = 0
        self._gate.lose()
        if self._sink is not None:
            self._sink.end()
        if self._raw is not None:
            self._raw.feed_eof(error)
        elif self._task is not None:
            self._task.cancel()
        if self._turn is _FREE:
            self._server.remove(self)

    def pause_writing(self) -> None:
        self._gate.shut = True

    def resume_writing(self) -> None:
        self._gate.open()
        self.flush()
        if self._queue and self._turn is _FREE:
            self._loop.call_soon(self._pump)

    # -- parsing

    def _repeats(self, known: KnownHead, data: bytes) -> bool:
        """Queue the request that ``data`` is, if all but its target is known from the one before."""
        head = known.repeated(data)
        if head is None:
            return False
        path, query, headers = head
        self._since = self._server.now
        request = Request("GET", path, query, headers, b"", self._peer)
        self._queue.append(Exchange(request, keep_alive=True, http10=False, mode=_PLAIN))
        return True

    def _parse_first(self, data: bytes) -> None:
        """Parse what begins with a head; it is kept if the next request may repeat it."""
        queue, before = self._queue, len(self._queue)
        self._parse(data)
        if self._stage is _IDLE and len(queue) == before + 1:
            exchange = queue[-1]
            if exchange.keep_alive and not exchange.http10 and exchange.mode is _PLAIN:
                self._known = known_head(data, exchange.request) or self._known

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._after_upgrade_head(data[upgrade.args[0] :])
            return
        except HttpParserError as error:
            if self._stage is not _REFUSED:  # else a callback of ours has refused it and said so
                log.debug("bad request from %s: %s", self._peer.address, error)
                self._refuse(400, "400 Bad Request")
            return
        if self._stage is _HEAD:
            self._head_size += len(data)
            if self._head_size > self._limits.headers:
                self._refuse(431, "431 Request Header Fields Too Large")
        elif len(self._queue) > self._limits.pipeline:
            self._reading.close()

    def _after_upgrade_head(self, rest: bytes) -> None:
        if (
            self._mode is not _UPGRADE
        ):  # it has a body, so it is served as a plain request: parse the body by its framing
            self._parser = HttpRequestParser(self)
            framing = "".join(
                f"{name}: {self._headers[name]}\r\n"
                for name in ("content-length", "transfer-encoding")
                if name in self._headers
            )
            self._stage = _BODY
            self._parse(f"POST / HTTP/1.1\r\n{framing}\r\n".encode())
            if rest and self._stage is not _REFUSED:
                self._parse(rest)
        elif self._stage is not _REFUSED:
            self._stage = _UNDECIDED
            if rest:
                self._set_aside(rest)

    def _set_aside(self, data: bytes) -> None:
        self._aside += data
        if len(self._aside) > self._limits.headers:
            self._reading.close()

    def on_message_begin(self) -> None:
        if self._stage is _BODY:  # the second parser of an Upgrade with a body
            return
        self._stage = _HEAD
        self._since = self._server.now
        self._url = b""
        self._fields = []
        self._body = b""
        self._body_size = self._head_size = self._field_size = self._field_count = 0
        self._mode = _PLAIN

    def on_url(self, url: bytes) -> None:
        if self._stage is _HEAD:
            self._url = self._url + url if self._url else url
            self._field_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage is not _HEAD:  # a trailer; nobody asked for it
            return
        self._field_count += 1
        self._field_size += len(name) + len(value)
        limits = self._limits
        if self._field_count > limits.fields or self._field_size > limits.headers:
            self._refuse(431, "431 Request Header Fields Too Large")
            raise HttpParserError("too large a head")
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head of a request, and prepare for its body; refuses one that is malformed or too large."""
        if self._stage is not _HEAD:
            return
        parser = self._parser
        self._headers = headers = Headers.of(read_fields(self._fields))
        self._fields = []
        method = parser.get_method()
        self._method = _METHODS.get(method) or text(method)
        self._keep_alive = keep_alive = parser.should_keep_alive()
        self._http10 = (not keep_alive or "connection" in headers) and parser.get_http_version() == "1.0"
        self._stage = _BODY
        if problem := self._problem(headers):
            self._refuse(*problem)
            raise HttpParserError(problem[1])
        length = headers.get("content-length")
        if parser.should_upgrade() and length in (None, "0") and "transfer-encoding" not in headers:
            self._mode = _UPGRADE
        if length is not None and int(length) > self._limits.body:
            self._oversized()
        elif "expect" in headers:
            self._expect(headers["expect"])

    def _problem(self, headers: Headers) -> tuple[int, str] | None:
        """Status and text of the refusal of a head that the parser has no objections to, in Go's words."""
        if "host" not in headers:
            return None if self._http10 else (400, "400 Bad Request: missing required Host header")
        if "transfer-encoding" in headers and headers["transfer-encoding"].lower() != "chunked" and not self._http10:
            return 501, "501 Not Implemented: Unsupported transfer encoding"
        if len(headers.each("host")) > 1:
            return 400, "400 Bad Request: too many Host headers"
        return None

    def _expect(self, expectation: str) -> None:
        if expectation.lower() != "100-continue":
            self._refuse(417, "417 Expectation Failed")
            raise HttpParserError("unknown expectation")
        if self._turn is not _FREE or self._queue:
            self._continue_due = True  # earlier responses come first
        else:
            self._queue_bytes(CONTINUE)

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        if self._body_size > self._limits.body:
            self._oversized()
        elif not self._body:
            self._body = data
        elif isinstance(self._body, bytes):
            self._body = [self._body, data]
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._stage is not _BODY or (self._mode is not _UPGRADE and self._parser.should_upgrade()):
            return
        self._stage = _IDLE
        body = self._body
        if not isinstance(body, bytes):
            body = b"".join(body)
        self._body = b""
        self._queue.append(Exchange(self._request(body), self._keep_alive, self._http10, self._mode))

    def _request(self, body: bytes) -> Request:
        url = text(self._url)
        if not url.startswith("/") and "://" in url:  # absolute form, as to a proxy
            url = "/" + url.partition("://")[2].partition("/")[2]
        path, _, query = url.partition("?")
        return Request(self._method, path, query, self._headers, body, self._peer)

    # -- refusing

    def _refuse(self, status: int, message: str) -> None:
        """Answer once all before it is answered, then end the connection."""
        self._stage = _REFUSED
        answer = Response(status, {"Content-Type": "text/plain; charset=utf-8"}, message.encode())
        self._queue.append(
            Exchange(Request("GET", ""), keep_alive=False, http10=False, mode=Mode.REFUSED, refusal=answer)
        )

    def _oversized(self) -> None:
        self._stage = _REFUSED
        self._body = b""
        self._queue.append(Exchange(self._request(b""), keep_alive=False, http10=self._http10, mode=Mode.OVERSIZED))
        raise HttpParserError("body too large")

    # -- serving

    def _pump(self) -> None:
        """Serve what is queued, until something has to wait."""
        while self._queue and self._turn is _FREE and not self._gate.shut:
            self._turn = _INLINE
            self._task = eager.start(self._loop, self._serve(self._queue.popleft()))
            if self._turn is _INLINE:
                self._turn = _AWAY
        if self._reading.shut and len(self._queue) <= self._limits.pipeline // 2:
            self._reading.open()

    async def _serve(self, exchange: Exchange) -> None:
        keep_alive = False
        try:
            response = exchange.refusal or await self._answer(exchange)
            keep_alive = exchange.keep_alive and not self._server.closing and not self._ended
            body = response.body
            if isinstance(body, bytes):
                self._send(exchange, response, body, keep_alive=keep_alive)
            elif isinstance(body, Upgrade):
                keep_alive = False
                await self._take_over(exchange, response, body)
            else:
                keep_alive = await self._stream(exchange, response, body, keep_alive=keep_alive)
        except asyncio.CancelledError:
            keep_alive = False
            self._transport.abort()
            raise
        finally:
            self._served(exchange, keep_alive=keep_alive)

    async def _answer(self, exchange: Exchange) -> Response:
        request = exchange.request
        try:
            if exchange.mode is Mode.OVERSIZED:
                return await self._server.oversized(request)
            return await self._server.handler(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, b"Internal Server Error\n")

    def _served(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """Settle the connection after an answer: close, or continue with the next request."""
        inline, self._turn = self._turn is _INLINE, _FREE
        self._task = None
        self._since = self._server.now
        transport = self._transport
        if transport.is_closing():
            if self._ended:
                self._server.remove(self)
            return
        if not keep_alive or (self._ended and not self._queue):
            self._finish()
            return
        if exchange.mode is _UPGRADE:  # declined: what follows is HTTP
            self._stage = _IDLE
            aside, self._aside = self._aside, b""
            if aside:
                self._loop.call_soon(self.data_received, aside)
        if self._queue:
            if not inline:  # the next request gets its own turn
                self._loop.call_soon(self._pump)
        elif self._continue_due:
            self._continue_due = False
            self._queue_bytes(CONTINUE)

    def _finish(self) -> None:
        self._flush_now()
        self._queue.clear()
        if self._raw is not None:
            self._raw.close()
            return
        self._stage = _REFUSED
        self._reading.open()
        if self._ended:
            self._transport.close()
        else:
            part(self._transport)

    def _send(self, exchange: Exchange, response: Response, body: bytes, *, keep_alive: bool) -> None:
        status, headers = response.status, response.headers
        bodiless = status < 200 or status in (204, 304)
        rest = "" if bodiless or "Content-Length" in headers else f"Content-Length: {len(body)}\r\n"
        if not keep_alive:
            rest += "Connection: close\r\n"
        elif exchange.http10:
            rest += "Connection: keep-alive\r\n"
        head = response_head(status, headers, rest, self._server.date())
        if bodiless or exchange.request.method == "HEAD":
            self._queue_bytes(head)
        elif len(body) <= _JOIN_LIMIT:
            self._queue_bytes(head + body)
        else:
            self._flush_now()
            self._transport.writelines((head, body))

    async def _stream(self, exchange: Exchange, response: Response, body: Stream, *, keep_alive: bool) -> bool:
        """Send a streamed body; whether the connection can be used again."""
        headers = response.headers
        chunked = not exchange.http10 and "Content-Length" not in headers
        keep_alive = keep_alive and (chunked or "Content-Length" in headers)
        rest = "Transfer-Encoding: chunked\r\n" if chunked else ""
        if not keep_alive:
            rest += "Connection: close\r\n"
        self._queue_bytes(response_head(response.status, headers, rest, self._server.date()))
        if exchange.request.method == "HEAD" or response.status in (204, 304):
            self.flush()
            return keep_alive
        self._sink = sink = ChunkSink(self, chunked=chunked)
        if self._server.closing or self._transport.is_closing():
            sink.end()
        try:
            await body(sink)
        except ConnectionError as error:  # of a server that is proxied
            log.info("%s %s: its stream broke off: %s", exchange.request.method, exchange.request.path, error)
            return self._break_off()
        except Exception:
            log.exception("%s %s failed in its stream", exchange.request.method, exchange.request.path)
            return self._break_off()
        finally:
            self._sink = None
        if chunked:
            self._queue_bytes(LAST_CHUNK)
        self.flush()
        return keep_alive and not self._server.closing

    def _break_off(self) -> bool:
        """Cut the connection: the only way to show the client that the body is incomplete."""
        self.flush()
        self._transport.abort()
        return False

    async def _take_over(self, exchange: Exchange, response: Response, upgrade: Upgrade) -> None:
        """Answer 101 and run the program on the raw stream until it ends."""
        request = exchange.request
        if exchange.mode is not _UPGRADE:
            log.error("%s %s: an Upgrade answers a request that did not ask for it", request.method, request.path)
            self._send(exchange, Response(500), b"", keep_alive=False)
            return
        headers = {"Connection": "Upgrade", **response.headers}
        self._flush_now()
        self._transport.write(response_head(101, headers, "", self._server.date()))
        self._raw = stream = TransportStream(self._transport, self._gate, self._aside)
        self._aside = b""
        self._stage = _RAW
        self._reading.open()
        if self._transport.is_closing():
            stream.feed_eof()
        try:
            await upgrade.run(stream)
        except ConnectionError as error:
            log.debug("%s %s: upgraded connection ended: %s", request.method, request.path, error)
        except Exception:
            log.exception("%s %s failed after its upgrade", request.method, request.path)

    # -- output

    def _queue_bytes(self, data: bytes) -> None:
        """Send at the end of the loop's turn: many small answers in a row cost less than each by itself."""
        if not self._pending:
            self._server.flush_soon(self)
        self._pending.append(data)
        self._pending_size += len(data)

    def queue_piece(self, data: bytes) -> None:
        """Send a piece of a stream, soon: see ``Server.flush_stream_soon``."""
        if not self._pending:
            self._server.flush_stream_soon(self)
        self._pending.append(data)
        self._pending_size += len(data)

    def flush(self) -> None:
        """Hand over what was queued. While the client is slow it is kept here, where watchers share the bytes."""
        if self._pending and not self._gate.shut:
            self._flush_now()

    def _flush_now(self) -> None:
        """Hand over even to a full transport: before a close, or before something is written past the queue."""
        pending = self._pending
        if not pending:
            return
        self._pending = []
        self._pending_size = 0
        if not self._transport.is_closing():
            self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    @property
    def buffered(self) -> int:
        """Bytes that the client has not taken."""
        return self._pending_size + self._transport.get_write_buffer_size()

    async def drain(self) -> None:
        self.flush()
        await self._gate.passed()

    # -- what the server calls

    def sweep(self, now: float) -> None:
        """Abort the connection if it is past its limit for head, body, idleness or stalled output; in seconds."""
        limits = self._limits
        if self._stage is _HEAD:
            expired = now - self._since > limits.header_timeout
        elif self._stage is _BODY:
            expired = now - self._since > limits.body_timeout
        elif self._turn is not _FREE:
            return
        elif self._gate.shut:
            waiting = self._transport.get_write_buffer_size()
            if waiting != self._stalled_at:
                self._stalled_at, self._since = waiting, now
            expired = now - self._since > limits.stall_timeout
        else:
            expired = self._stage is _IDLE and now - self._since > limits.idle_timeout
        if expired:
            self._transport.abort()

    def shut_down(self) -> None:
        if self._sink is not None:
            self._sink.end()
        elif self._turn is _FREE and not self._queue and self._stage in (_IDLE, _REFUSED):
            self._flush_now()
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def tasks(self) -> set[asyncio.Task[None]]:
        return {self._task} if self._task is not None else set()
