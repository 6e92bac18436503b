"""Sockets on a wire: announcing addresses, and hearing who else says that it has one.

Source: packet(7), socket(7).
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterable

from tiphys.wire.link.frames import Claim, claim_of, claims_filter, frames

_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 0x0003
_OUTGOING = 4
_MOST_AT_ONCE = 64
"""Frames that are read before the loop's other tasks have their turn."""


def say_who_has(interface: str, addresses: Iterable[str]) -> None:
    """Announce addresses from an interface, in the calling thread's network. Raises ``OSError``."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((interface, 0))
        hardware: bytes = sender.getsockname()[4]
        for address in addresses:
            for frame in frames(hardware, address):
                sender.send(frame)


class ClaimListener:
    """Calls ``heard`` with each claim of somebody else on an interface, until it is closed. Raises ``OSError``."""

    def __init__(self, interface: str, heard: Callable[[Claim], None]) -> None:
        self._heard = heard
        self.broken = False
        """Whether nothing more is heard: to be closed, and opened again."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        try:
            _attach(self._socket, claims_filter())
            self._socket.bind((interface, _ETH_P_ALL))
            self.hardware: bytes = self._socket.getsockname()[4]
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            try:
                frame, sender = self._socket.recvfrom(128)
            except BlockingIOError:
                return
            except OSError:  # the interface is gone or down
                self.broken = True
                return
            claim = None if sender[2] == _OUTGOING else claim_of(frame)
            if claim is not None and claim.hardware != self.hardware:
                self._heard(claim)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def _attach(sock: socket.socket, program: bytes) -> None:
    """Let the kernel keep from a socket what it is not for."""
    buffer = ctypes.create_string_buffer(program)
    described = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
