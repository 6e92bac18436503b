"""TLS between a transport and a protocol: OpenSSL on memory buffers, for servers and clients.

The event loops' own TLS costs 40 µs and more for a small request and its answer, most of it in finding out by an
exception that nothing more is to be read, and asyncio's takes 300 KB a connection. This layer asks OpenSSL only while
bytes are there, hands each read and write straight on, and keeps no buffers itself. Source: RFC 8446
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

from tiphys.wire.parting import unread
from tiphys.wire.tls import clientcerts

log = logging.getLogger(__name__)

_READ_SIZE = 256 * 1024
_WRITE_SIZE = 256 * 1024

Data = bytes | bytearray | memoryview


class Ours(enum.Enum):
    """This side's half of a connection; it only goes on."""

    OPEN = enum.auto()
    SAID_GOODBYE = enum.auto()
    """Nothing more is sent; what the other side sends is read on."""
    CLOSED = enum.auto()
    """Nothing more is delivered, either."""


class Theirs(enum.Enum):
    """The other side's half; it only goes on."""

    OPEN = enum.auto()
    ENDED = enum.auto()
    """All has come, but the inner protocol does not know yet: it may have paused its reading."""
    HEARD = enum.auto()


_OPEN, _CLOSED = Ours.OPEN, Ours.CLOSED


class TlsLayer(asyncio.Protocol):
    """The protocol of the raw transport. ``make`` gives the inner protocol, once the handshake is done.

    ``ready``, if given, gets None then, or the error with which the handshake failed. The layer is in ``pending``
    while its handshake lasts.
    """

    __slots__ = (
        "_asked",
        "_held",
        "_incoming",
        "_inner",
        "_make",
        "_object",
        "_ours",
        "_outcome",
        "_outgoing",
        "_paused",
        "_pending",
        "_raw",
        "_ready",
        "_theirs",
        "_timeout",
        "_timer",
        "_transport",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        timeout: float,
        *,
        server_hostname: str | None = None,
        ready: asyncio.Future[None] | None = None,
        pending: set[TlsLayer] | None = None,
    ) -> None:
        """``server_hostname``: on a client's side, the name that the certificate must carry."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=context.protocol == ssl.PROTOCOL_TLS_SERVER,
            server_hostname=server_hostname,
        )
        self._asked: bool = getattr(context, "asks", False)
        self._outcome = clientcerts.Verification()
        self._make = make
        self._ready = ready
        self._pending = pending
        self._timeout = timeout
        self._timer: asyncio.TimerHandle | None = None
        self._raw: asyncio.Transport = cast(asyncio.Transport, None)
        self._inner: asyncio.Protocol | None = None
        self._transport: TlsTransport | None = None
        self._ours = _OPEN
        self._theirs = Theirs.OPEN
        self._paused = False
        self._held: list[bytes] = []
        """Read before this side's goodbye, and not delivered while reading is paused."""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast(asyncio.Transport, transport)
        if self._pending is not None:
            self._pending.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self._too_slow)
        if not self._object.server_side:
            self._handshake()

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        if self._inner is None and not self._handshake():
            return
        self._read()

    def eof_received(self) -> bool:
        if self._inner is None:
            self._fail(ConnectionResetError("connection closed in the TLS handshake"))
        elif self._ours is not _CLOSED:
            if self._theirs is Theirs.OPEN:
                self._theirs = Theirs.ENDED
            if not self._paused:
                self._hear_goodbye()
        return self._ours is not _CLOSED and self._inner is not None

    def connection_lost(self, error: Exception | None) -> None:
        self._settled()
        if error is not None and self._inner is not None and self._theirs is not Theirs.HEARD:
            self._incoming.write(unread(self._raw))
            self._read(last=True)
        self._ours = _CLOSED
        if self._inner is not None:
            self._inner.connection_lost(error)
        else:
            self._fail(error or ConnectionResetError("connection closed in the TLS handshake"))

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    # -- handshake

    def _handshake(self) -> bool:
        """Take a step; whether it was the last."""
        if self._ours is _CLOSED:
            return False
        if self._asked:
            clientcerts.noting(self._outcome)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return False
        except ssl.SSLError as error:
            log.debug("TLS handshake: %s", error)
            self._send()  # the alert
            self._fail(error)
            self._raw.close()
            return False
        self._send()
        self._settled()
        self._inner = self._make()
        self._transport = TlsTransport(self)
        self._inner.connection_made(self._transport)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        return True

    def _too_slow(self) -> None:
        self._fail(TimeoutError("TLS handshake timed out"))
        self._raw.abort()

    def _fail(self, error: Exception) -> None:
        self._ours = _CLOSED
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)

    def _settled(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending is not None:
            self._pending.discard(self)

    # -- bytes

    def _read(self, *, last: bool = False) -> None:
        """Deliver what has come. ``last``: although reading is paused, as the connection is lost."""
        while self._held and (last or not self._paused):
            cast(asyncio.Protocol, self._inner).data_received(self._held.pop(0))
        while self._incoming.pending and (last or not self._paused) and self._ours is not _CLOSED:
            try:
                data = self._object.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                break  # part of a record
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                log.debug("TLS: %s", error)
                self._send()
                self._raw.abort()
                return
            if not data:  # the other side's goodbye
                self._hear_goodbye()
                return
            cast(asyncio.Protocol, self._inner).data_received(data)
        if self._outgoing.pending:  # an answer of the protocol itself
            self._send()
        if self._theirs is Theirs.ENDED and not self._paused and self._ours is not _CLOSED:
            self._hear_goodbye()

    def _hear_goodbye(self) -> None:
        """The other side has sent all. The inner protocol may want to continue writing."""
        if self._theirs is Theirs.HEARD:
            return
        self._theirs = Theirs.HEARD
        if not cast(asyncio.Protocol, self._inner).eof_received():
            self.close()

    def say_goodbye(self) -> None:
        """Send no more; what the other side still sends is read on."""
        if self._ours is not _OPEN:
            return
        self._ours = Ours.SAID_GOODBYE
        with contextlib.suppress(ssl.SSLError):  # OpenSSL takes what lies unread before a goodbye for an attack
            while self._incoming.pending and (data := self._object.read(_READ_SIZE)):
                self._held.append(data)
        with contextlib.suppress(ssl.SSLError):  # the other side's goodbye is not there yet, as expected
            self._object.unwrap()
        self._send()
        self._raw.write_eof()
        if self._held:
            asyncio.get_running_loop().call_soon(self._read)

    def _send(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def write(self, data: Data) -> None:
        """Encrypt and send; dropped after the connection has begun to close."""
        if self._ours is not _OPEN or not data:
            return
        try:
            if len(data) <= _WRITE_SIZE:
                self._object.write(data)
                self._raw.write(self._outgoing.read())
                return
            view = memoryview(data)
            for at in range(0, len(view), _WRITE_SIZE):
                self._object.write(view[at : at + _WRITE_SIZE])
                self._raw.write(self._outgoing.read())
        except ssl.SSLError as error:
            log.debug("TLS: %s", error)
            self._raw.abort()

    # -- what the transport calls

    @property
    def raw(self) -> asyncio.Transport:
        return self._raw

    @property
    def tls(self) -> ssl.SSLObject:
        return self._object

    def client_certificate(self) -> tuple[bytes | None, str]:
        """The other side's certificate in DER, if it is verified; and what is wrong with one that is not."""
        return clientcerts.shown(self._object, self._outcome, asked=self._asked)

    @property
    def inner(self) -> asyncio.Protocol:
        return cast(asyncio.Protocol, self._inner)

    @inner.setter
    def inner(self, protocol: asyncio.Protocol) -> None:
        self._inner = protocol

    @property
    def closing(self) -> bool:
        return self._ours is _CLOSED or self._raw.is_closing()

    def close(self) -> None:
        """Say goodbye, send what is left, close; the other side's goodbye is not waited for."""
        if self._ours is _CLOSED:
            return
        before, self._ours = self._ours, _CLOSED
        if before is _OPEN:
            with contextlib.suppress(ssl.SSLError):  # its goodbye is not there yet, as expected
                self._object.unwrap()
            self._send()
        self._raw.close()

    def abort(self) -> None:
        self._ours = _CLOSED
        self._raw.abort()

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self.closing:
            self._paused = False
            self._raw.resume_reading()
            asyncio.get_running_loop().call_soon(self._read)


class TlsTransport(asyncio.Transport):
    """What the inner protocol sees."""

    __slots__ = ("_layer", "write")

    def __init__(self, layer: TlsLayer) -> None:
        self._layer = layer
        self.write = layer.write  # type: ignore[method-assign]

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self._layer.write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._layer.tls
        if name == "client_certificate":
            return self._layer.client_certificate()
        return self._layer.raw.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._layer.closing

    def close(self) -> None:
        self._layer.close()

    def abort(self) -> None:
        self._layer.abort()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._layer.inner = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._layer.inner

    def is_reading(self) -> bool:
        return self._layer.raw.is_reading()

    def pause_reading(self) -> None:
        self._layer.pause_reading()

    def resume_reading(self) -> None:
        self._layer.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._layer.raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._layer.say_goodbye()
