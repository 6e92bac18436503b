"""WebSocket over a ``ByteStream`` (RFC 6455), and Kubernetes' channel subprotocols on top of it.

Framing is the ``websockets`` package's part without I/O; the handshake is an ordinary request and answer, made here
because it travels through the same ``Handler`` and ``Transport`` as every other.

``channel.k8s.io``, ``v4.`` and ``v5.channel.k8s.io`` put the channel's number into each message's first byte;
``base64.`` variants send it as a digit and the rest in base64, as text. In v5, a message ``255, n`` closes channel n.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from tiphys.wire.http import ByteStream, Headers, Request

if TYPE_CHECKING:
    from websockets.frames import Frame

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
V4_BASE64 = "v4.base64.channel.k8s.io"
V1 = "channel.k8s.io"
V1_BASE64 = "base64.channel.k8s.io"
TUNNEL_PREFIX = "SPDY/3.1+"
"""Before a SPDY subprotocol's name: binary messages carry the bytes of a whole SPDY connection."""

NORMAL_CLOSURE = 1000
_CLOSE_SIGNAL = 255
_protocol_log = logging.getLogger(f"{__name__}.protocol")
_protocol_log.setLevel(logging.WARNING)  # below, the package shows what the messages hold
_ACCEPT_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_MAX_MESSAGE = 4 * 1024 * 1024


class HandshakeError(Exception):
    """The request or answer is no valid WebSocket handshake; the text says why."""


def is_websocket(request: Request) -> bool:
    """Whether the request asks for an upgrade to WebSocket."""
    headers = request.headers
    return headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers.get("connection", "").lower()


def offered_protocols(request: Request) -> list[str]:
    """The subprotocols that the client offers, in its order."""
    return [name for part in request.headers.get("sec-websocket-protocol", "").split(",") if (name := part.strip())]


def accept_headers(request: Request, protocol: str = "") -> dict[str, str]:
    """The headers of the 101 answer. Raises HandshakeError."""
    key = request.headers.get("sec-websocket-key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        valid = False
    if request.method != "GET" or not valid:
        raise HandshakeError("not a WebSocket handshake")
    if request.headers.get("sec-websocket-version") != "13":
        raise HandshakeError("unsupported WebSocket version; 13 is supported")
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": _accept(key)}
    if protocol:
        headers["Sec-WebSocket-Protocol"] = protocol
    return headers


def request_headers(*protocols: str) -> Headers:
    """The headers of a client's handshake."""
    headers = Headers()
    headers["connection"] = "Upgrade"
    headers["upgrade"] = "websocket"
    headers["sec-websocket-version"] = "13"
    headers["sec-websocket-key"] = base64.b64encode(os.urandom(16)).decode()
    if protocols:
        headers["sec-websocket-protocol"] = ", ".join(protocols)
    return headers


def check_answer(sent: Headers, status: int, headers: Headers) -> str:
    """The subprotocol that the server chose. Raises HandshakeError."""
    if status != 101 or headers.get("upgrade", "").lower() != "websocket":
        raise HandshakeError(f"the server answered {status} in place of an upgrade")
    if headers.get("sec-websocket-accept") != _accept(sent["sec-websocket-key"]):
        raise HandshakeError("the server's Sec-WebSocket-Accept is wrong")
    return headers.get("sec-websocket-protocol", "")


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT_SUFFIX).digest()).decode()


class WebSocket:
    """Messages over an upgraded connection. One receiver at a time."""

    def __init__(self, stream: ByteStream, *, server: bool, max_size: int = _MAX_MESSAGE) -> None:
        from websockets.protocol import OPEN, Protocol, Side  # 30 ms, where a WebSocket is used

        self._stream = stream
        side = Side.SERVER if server else Side.CLIENT
        self._protocol = Protocol(side, state=OPEN, max_size=max_size, logger=_protocol_log)
        self._messages: deque[bytes | str] = deque()
        self._parts: list[bytes] = []
        self._is_text = False
        self._over = False
        self.close_code: int | None = None
        """The code of the other side's close frame, once it came."""

    async def receive(self) -> bytes | str | None:
        """The next message (text as ``str``); None once the connection is closed. Pings are answered on the way."""
        while not self._messages:
            if self._over:
                return None
            try:
                data = await self._stream.read()
            except ConnectionError:
                data = b""
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
                self._over = True
            if self._flush():
                with contextlib.suppress(ConnectionError):
                    await self._stream.drain()  # who pings without reading is read no further
            for frame in self._protocol.events_received():
                self._take(frame)  # type: ignore[arg-type]
            self._over = self._over or self._protocol.close_expected()
            if self._over and self._protocol.close_rcvd is not None:
                self.close_code = self._protocol.close_rcvd.code
        return self._messages.popleft()

    def _take(self, frame: Frame) -> None:
        from websockets.frames import Opcode

        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
        elif frame.opcode is not Opcode.CONT:
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            message = b"".join(self._parts)
            self._parts.clear()
            self._messages.append(message.decode("utf-8", "replace") if self._is_text else message)

    def send(self, message: bytes | str) -> None:
        """Send one message; dropped once the connection is closing."""
        from websockets.protocol import OPEN

        if self._protocol.state is not OPEN:
            return
        if isinstance(message, str):
            self._protocol.send_text(message.encode())
        else:
            self._protocol.send_binary(message)
        self._flush()

    async def drain(self) -> None:
        await self._stream.drain()

    def ping(self) -> None:
        from websockets.protocol import OPEN

        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._flush()

    def finish(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Send the close frame: nothing more is sent; what the other side still says is received."""
        from websockets.protocol import OPEN

        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._flush()

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Send the close frame and close the connection."""
        self.finish(code, reason)
        self._over = True
        self._stream.close()

    def _flush(self) -> bool:
        """Send what there is; whether there was anything."""
        data = b"".join(self._protocol.data_to_send())
        if data:
            self._stream.write(data)
        return bool(data)


class Message(NamedTuple):
    channel: int
    data: bytes
    closed: bool = False
    """The client has closed the channel (v5)."""


class Channels:
    """Numbered channels over a ``WebSocket``, as ``protocol`` encodes them."""

    def __init__(self, socket: WebSocket, protocol: str) -> None:
        self._socket = socket
        self._base64 = protocol in (V4_BASE64, V1_BASE64)
        self._closes = protocol == V5

    async def receive(self) -> Message | None:
        """The next message; None once the connection is closed. Raises HandshakeError if one is malformed."""
        while (message := await self._socket.receive()) is not None:
            data = message.encode() if isinstance(message, str) else message
            if not data:
                continue
            if self._closes and data[0] == _CLOSE_SIGNAL:
                if len(data) != 2:
                    raise HandshakeError("a single channel byte should follow the close signal")
                return Message(data[1], b"", closed=True)
            if not self._base64:
                return Message(data[0], data[1:])
            try:
                return Message(data[0] - ord("0"), base64.b64decode(data[1:], validate=True))
            except binascii.Error as error:
                raise HandshakeError("a message is not base64") from error
        return None

    def send(self, channel: int, data: bytes) -> None:
        if self._base64:
            self._socket.send(f"{channel}{base64.b64encode(data).decode()}")
        else:
            self._socket.send(bytes((channel,)) + data)

    def close_channel(self, channel: int) -> None:
        """Signal to the server that a channel has ended (v5; other versions cannot)."""
        if self._closes:
            self._socket.send(bytes((_CLOSE_SIGNAL, channel)))

    async def drain(self) -> None:
        await self._socket.drain()


class TunnelStream:
    """A ``ByteStream`` in binary messages of a WebSocket: SPDY tunnelled for port-forward."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._rest = b""

    async def read(self, limit: int = 65536) -> bytes:
        while not self._rest:
            message = await self._socket.receive()
            if message is None:
                return b""
            if isinstance(message, str):
                raise ConnectionError("invalid message type received")
            self._rest = message
        data, self._rest = self._rest[:limit], self._rest[limit:]
        return data

    def write(self, data: bytes) -> None:
        self._socket.send(data)

    async def drain(self) -> None:
        await self._socket.drain()

    def write_eof(self) -> bool:
        self._socket.finish()
        return True

    def close(self) -> None:
        self._socket.close()
