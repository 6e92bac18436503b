"""Logs and watches for WebSocket clients: what would be the body of the answer goes out as messages.

A log is sent as bytes (``binary.k8s.io``, or no subprotocol) or in base64 (``base64.binary.k8s.io``), a watch as one
text message for each event, in no subprotocol. What the client sends is read and dropped; that it closes ends the
stream.

Source: the package ``wsstream`` of upstream, https://pkg.go.dev/k8s.io/streaming/pkg/httpstream/wsstream
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Iterable

from tiphys.api import errors
from tiphys.wire import websocket
from tiphys.wire.http import ByteStream, Request, Response, Stream, Upgrade
from tiphys.wire.websocket import HandshakeError, WebSocket

BINARY, BASE64 = "binary.k8s.io", "base64.binary.k8s.io"

Split = Callable[[bytes], Iterable[bytes | str]]
"""Makes messages of one piece of the body."""


def log_over_websocket(request: Request, response: Response) -> Response:
    """The answer with a log, for a client that asks for a WebSocket. Raises 400 if the handshake is wrong."""
    offered = websocket.offered_protocols(request)
    protocol = next((name for name in offered if name in (BINARY, BASE64)), "")
    if offered and not protocol:
        raise errors.bad_request(f"the subprotocols {', '.join(offered)} are not known; use {BINARY} or {BASE64}")
    return _upgraded(request, response, protocol, _in_base64 if protocol == BASE64 else _as_it_is)


def watch_over_websocket(request: Request, response: Response) -> Response:
    """The answer with a watch, for a client that asks for a WebSocket. Raises 400 if the handshake is wrong."""
    return _upgraded(request, response, "", _line_by_line)


def _as_it_is(piece: bytes) -> Iterable[bytes]:
    return (piece,)


def _in_base64(piece: bytes) -> Iterable[str]:
    return (base64.b64encode(piece).decode(),)


def _line_by_line(piece: bytes) -> Iterable[str]:
    return piece.decode().splitlines(keepends=True)


def _upgraded(request: Request, response: Response, protocol: str, split: Split) -> Response:
    try:
        headers = websocket.accept_headers(request, protocol)
    except HandshakeError as error:
        raise errors.bad_request(str(error)) from error
    body = response.body
    assert not isinstance(body, Upgrade)

    async def run(stream: ByteStream) -> None:
        await _serve(WebSocket(stream, server=True), body, split)

    return Response(101, headers, Upgrade(run))


async def _serve(socket: WebSocket, body: bytes | Stream, split: Split) -> None:
    sink = MessageSink(socket, split)
    receiving = asyncio.create_task(sink.follow_client())
    sending = asyncio.create_task(sink.send())
    try:
        if isinstance(body, bytes):
            sink.write(body)
        else:
            await body(sink)
        await sink.drain()
    finally:
        for task in (receiving, sending):
            task.cancel()
        await asyncio.gather(receiving, sending, return_exceptions=True)
        socket.close()


class MessageSink:
    """A ``Sink`` that sends each piece as messages. ``send`` and ``follow_client`` run beside whoever writes."""

    def __init__(self, socket: WebSocket, split: Split) -> None:
        self._socket = socket
        self._split = split
        self._waiting: deque[bytes] = deque()
        self._buffered = 0
        self._wakes_sender = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._gone = asyncio.Event()

    def write(self, data: bytes) -> None:
        if not data or self._gone.is_set():
            return
        self._waiting.append(data)
        self._buffered += len(data)
        self._empty.clear()
        self._wakes_sender.set()

    @property
    def buffered(self) -> int:
        return self._buffered

    async def drain(self) -> None:
        await self._empty.wait()

    @property
    def closed(self) -> bool:
        return self._gone.is_set()

    async def wait_closed(self) -> None:
        await self._gone.wait()

    async def send(self) -> None:
        """Send what is written, at the client's pace."""
        while True:
            await self._wakes_sender.wait()
            self._wakes_sender.clear()
            while self._waiting:
                piece = self._waiting.popleft()
                for message in self._split(piece):
                    self._socket.send(message)
                try:
                    await self._socket.drain()
                except ConnectionError:
                    return self._end()
                self._buffered -= len(piece)
            self._empty.set()

    async def follow_client(self) -> None:
        """Drop what the client sends, until it disconnects."""
        while await self._socket.receive() is not None:
            pass
        self._end()

    def _end(self) -> None:
        self._waiting.clear()
        self._buffered = 0
        self._gone.set()
        self._empty.set()
