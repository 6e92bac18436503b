"""``reserve``: a socket of a port's own, for a server to listen on. A leaf.

Source: https://man7.org/linux/man-pages/man7/socket.7.html, SO_REUSEPORT
"""

from __future__ import annotations

import socket


def reserve(host: str, port: int, *, alone: bool = False, shared: bool = False) -> socket.socket:
    """A socket bound to an address, for ``serve`` to listen on later. Raises ``OSError`` if it cannot be had.

    ``::`` is any address, of IPv4 too, as for Go's programs; with ``alone`` those of IPv6 only. ``shared``: with others
    that listen on the same port, each getting a part of the connections.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, alone or host != "::")
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return sock
