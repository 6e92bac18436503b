"""Relays TCP connections and UDP datagrams from a listener to a target that is chosen for each client."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

Address = tuple[str, int]
Choose = Callable[[str], Address | None]
"""The endpoint for a client's IP address; None if no endpoint exists."""

CONNECT_TIMEOUT = 10.0
CHUNK = 65536
UDP_IDLE = 30.0
UDP_CLIENTS = 4096
_IP_FREEBIND = 15


def _bound(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """A socket on an address, which this machine may get only later: a load balancer's is on one node at a time. Raises
    ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class TcpRelay:
    """A TCP socket that listens while there are endpoints; who comes as the last one goes is closed at once."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> None:
        """Accept connections, if it does not already. Raises ``OSError``."""
        if self._server is None:
            sock = _bound(socket.SOCK_STREAM, host, port)
            self._server = await asyncio.start_server(self._accepted, sock=sock, limit=CHUNK)

    def stop_listening(self) -> None:
        """Connections that are established go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target = self._choose(writer.get_extra_info("peername")[0])
            if target is None:
                return
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    far_reader, far_writer = await asyncio.open_connection(*target, limit=CHUNK)
            except (OSError, TimeoutError) as error:
                log.debug("endpoint %s:%d cannot be reached: %s", *target, error)
                return
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, far_writer))
                    both.create_task(_pump(far_reader, writer))
            finally:
                far_writer.close()
        finally:
            writer.close()

    async def close(self) -> None:
        self.stop_listening()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader's end, and pass the end on; a cut connection ends both directions."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()


_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_DATAGRAMS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class _Client:
    """Who sent a datagram (a socket's address, which in IPv6 has four parts), and which of our addresses it was for."""

    source: tuple[Any, ...]
    asked: bytes


class UdpRelay:
    """A bound UDP socket. Each client has a socket towards its endpoint, closed when it has been idle for a while.

    A node port is bound to every address of the machine. An answer must come from the one that was asked, or its client
    does not take it for one: the kernel says with each datagram which it was for, and each answer names it (ip(7),
    ipv6(7): IP_PKTINFO).
    """

    def __init__(self, choose: Choose, clock: Clock) -> None:
        self._choose = choose
        self._clock = clock
        self._socket: socket.socket | None = None
        self._clients: dict[_Client, _UdpClient] = {}
        self._opening: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> None:
        """Take datagrams, if it does not already. Raises ``OSError``."""
        if self._socket is None:
            self._socket = _bound(socket.SOCK_DGRAM, host, port)
            if self._socket.family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            else:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            asyncio.get_running_loop().add_reader(self._socket, self._read)

    def stop_listening(self) -> None:
        """Endpoints that are gone answer nobody: their clients are forgotten too."""
        for client in list(self._clients):
            self.forget(client)
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        """Take what has come: a part of it, if that is much."""
        for _ in range(_DATAGRAMS_AT_ONCE):
            if self._socket is None:
                return
            try:
                data, about, _flags, source = self._socket.recvmsg(CHUNK, socket.CMSG_SPACE(20))
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("a datagram was not received: %s", error)
                return
            asked = next((content for _, kind, content in about if kind in (_IP_PKTINFO, _IPV6_PKTINFO)), b"")
            self._take(data, _Client(source, _answering(asked)))

    def _take(self, data: bytes, client: _Client) -> None:
        known, now = self._clients.get(client), self._clock.monotonic()
        if known is None:
            self._forget_idle(now)
            target = self._choose(client.source[0])
            if target is None or len(self._clients) >= UDP_CLIENTS:
                return
            known = self._clients[client] = _UdpClient(self, client, now)
            task = asyncio.get_running_loop().create_task(known.open(target))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        known.send(data, now)

    def answer(self, data: bytes, client: _Client) -> None:
        """Send an endpoint's datagram to its client; it is lost if the kernel does not take it now, as any may be."""
        if self._socket is None:
            return
        v6 = self._socket.family == socket.AF_INET6
        level, kind = (socket.IPPROTO_IPV6, _IPV6_PKTINFO) if v6 else (socket.IPPROTO_IP, _IP_PKTINFO)
        try:
            self._socket.sendmsg([data], [(level, kind, client.asked)] if client.asked else [], 0, client.source)
        except OSError as error:
            log.debug("an answer to %s was not sent: %s", client.source[0], error)

    def forget(self, client: _Client) -> None:
        known = self._clients.pop(client, None)
        if known is not None:
            known.close()

    def reconnect(self, valid: set[Address]) -> None:
        """Drop the clients whose endpoint is not in ``valid`` any more; their next datagram finds another."""
        for client, known in list(self._clients.items()):
            if known.target is not None and known.target not in valid:
                self.forget(client)

    def _forget_idle(self, now: float) -> None:
        for client in [client for client, known in self._clients.items() if now - known.used > UDP_IDLE]:
            self.forget(client)

    async def close(self) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self.stop_listening()


def _answering(info: bytes) -> bytes:
    """What the kernel said of a datagram's way as what to say of the answer's: from that address, by any interface.

    struct in_pktinfo is an interface, our address and the one that was asked; in6_pktinfo an address and an interface.
    """
    if len(info) == 12:
        return bytes(4) + info[4:8] + bytes(4)
    return info[:16] + bytes(4) if len(info) == 20 else b""


class _UdpClient(asyncio.DatagramProtocol):
    """One client's socket towards its endpoint; datagrams that come before it is open wait, a few of them."""

    WAITING = 16

    def __init__(self, relay: UdpRelay, client: _Client, now: float) -> None:
        self._relay = relay
        self._client = client
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self.target: Address | None = None
        self.used = now

    async def open(self, target: Address) -> None:
        self.target = target
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, remote_addr=target)
        except OSError as error:
            log.debug("endpoint %s:%d cannot be reached: %s", *target, error)
            self._relay.forget(self._client)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        for data in self._waiting:
            self._transport.sendto(data)
        self._waiting.clear()

    def send(self, data: bytes, now: float) -> None:
        self.used = now
        if self._transport is not None:
            self._transport.sendto(data)
        elif len(self._waiting) < self.WAITING:
            self._waiting.append(data)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._relay.answer(data, self._client)

    def error_received(self, exc: Exception) -> None:
        self._relay.forget(self._client)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
