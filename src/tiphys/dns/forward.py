"""Asks the node's own resolvers for names outside of the cluster.

Questions are forwarded as received but with a new random id, and answers must match both. A server
that does not answer in time is passed over for the next. This server and the cluster's DNS address are never asked:
the question would go round in circles. Source: RFC 1035, section 7
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

Server = tuple[str, int]

MOST_SERVERS = 15


def parse_servers(text: str) -> list[str]:
    """The addresses in a resolv.conf."""
    servers = []
    for line in text.splitlines():
        words = re.split(r"[#;]", line, maxsplit=1)[0].split()
        if len(words) >= 2 and words[0] == "nameserver":
            servers.append(words[1])
    return servers


def server_address(text: str) -> Server:
    """``1.1.1.1``, ``1.1.1.1:5353``, ``[2606::1]:53`` or ``2606::1``."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port.lstrip(":") or 53)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, int(port)
    return text, 53


class Forwarder:
    """``exclude`` are the addresses of this server itself."""

    def __init__(
        self,
        *,
        servers: Iterable[str],
        resolver_file: str,
        exclude: Iterable[Server],
        timeout: float,
        rng: random.Random,
    ) -> None:
        self._configured = [server_address(text) for text in servers]
        self._file = Path(resolver_file)
        self._exclude = set(exclude)
        self._timeout = timeout
        self._rng = rng
        self._read: tuple[float, list[Server]] = (-1.0, [])

    def servers(self) -> list[Server]:
        """Whom to ask, in order; the file is read again when it has changed."""
        if self._configured:
            return [server for server in self._configured if server not in self._exclude]
        try:
            changed = self._file.stat().st_mtime
            if changed != self._read[0]:
                listed = [server_address(text) for text in parse_servers(self._file.read_text())]
                self._read = (changed, listed[:MOST_SERVERS])
        except (OSError, ValueError) as error:
            log.warning("cannot read %s: %s", self._file, error)
        return [server for server in self._read[1] if server not in self._exclude]

    async def ask(self, question: bytes, *, tcp: bool) -> bytes | None:
        """The answer's bytes, with the question's number and spelling; None if nobody answers."""
        for server in self.servers():
            number = self._rng.randrange(65536).to_bytes(2, "big")
            sent = number + question[2:]
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await (_ask_tcp(server, sent) if tcp else _ask_udp(server, sent))
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                log.debug("name server %s:%d does not answer: %s", *server, error)
                continue
            end = _question_end(question)
            return question[:2] + answer[2:12] + question[12:end] + answer[end:]
        return None


def matches(question: bytes, answer: bytes) -> bool:
    """Whether it is the answer to this very question: same number, and the question repeated."""
    end = _question_end(question)
    return (
        len(answer) >= 12
        and answer[:2] == question[:2]
        and bool(answer[2] & 0x80)
        and answer[12:end].lower() == question[12:end].lower()
    )


def _question_end(message: bytes) -> int:
    at = 12
    while at < len(message) and message[at]:
        at += message[at] + 1
    return at + 5


class _Asker(asyncio.DatagramProtocol):
    def __init__(self, question: bytes) -> None:
        self._question = question
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done() and matches(self._question, data):
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _ask_udp(server: Server, question: bytes) -> bytes:
    """From its own socket, so that the port is random too."""
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(lambda: _Asker(question), remote_addr=server)
    try:
        transport.sendto(question)
        return await asker.answer
    finally:
        transport.close()


async def _ask_tcp(server: Server, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(question).to_bytes(2, "big") + question)
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(length)
    finally:
        writer.close()
    if not matches(question, answer):
        raise OSError("the answer is to another question")
    return answer
