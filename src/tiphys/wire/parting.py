"""Ending a connection so that nothing that was sent is lost.

A socket that is closed while bytes lie unread in it answers with a reset, and the kernel forgets what was still to be
sent: the tail of an answer is lost because the client said one more word. So the sending side is ended first, what
still comes is read and dropped, and the socket is closed when the other side has closed, or has acknowledged all
(RFC 9112, section 9.6). In the other direction, a reset that a write meets leaves bytes unread that came before it:
``unread`` fetches them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios

_LOOK_EVERY = 0.25
_STALLED = 60.0
"""Seconds after which a client that takes nothing more is cut."""
_BLOCK = 256 * 1024


def part(transport: asyncio.Transport) -> None:
    """Say goodbye, and close when all has arrived. The protocol keeps reading, and closes at the other's goodbye."""
    if transport.is_closing():
        return
    if not transport.can_write_eof():
        transport.close()
        return
    transport.write_eof()
    _look(transport, _unsent(transport), asyncio.get_running_loop().time() + _STALLED)


def _look(transport: asyncio.Transport, before: int, deadline: float) -> None:
    asyncio.get_running_loop().call_later(_LOOK_EVERY, _looked, transport, before, deadline)


def _looked(transport: asyncio.Transport, before: int, deadline: float) -> None:
    if transport.is_closing():
        return
    now = asyncio.get_running_loop().time()
    left = _unsent(transport)
    if left == 0:
        transport.close()
    elif left != before:
        _look(transport, left, now + _STALLED)
    elif now < deadline:
        _look(transport, left, deadline)
    else:
        transport.abort()


def _unsent(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not acknowledged: those in the process and those in the kernel."""
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    try:
        (kernel,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))
    except (OSError, AttributeError, ValueError):  # no socket, or no longer
        return waiting
    return waiting + int(kernel)


def unread(transport: asyncio.Transport) -> bytes:
    """What lies in a socket whose connection is lost; as much as the kernel's buffer, which is some megabytes."""
    sock = transport.get_extra_info("socket")
    pieces: list[bytes] = []
    try:
        descriptor = sock.fileno()
        while piece := os.read(descriptor, _BLOCK):
            pieces.append(piece)
    except (OSError, AttributeError, ValueError):  # all read, no socket, or no longer
        pass
    return b"".join(pieces)
