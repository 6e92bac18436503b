"""Sockets of the kubelet's own, for root alone.

Source: https://man7.org/linux/man-pages/man7/unix.7.html
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def private_socket(folder: Path, name: str) -> socket.socket:
    """Bound by the folder's descriptor, as the whole path may be too long for a socket. Raises ``OSError``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    descriptor = os.open(folder, os.O_DIRECTORY | os.O_RDONLY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{name}")
        os.chmod(name, 0o600, dir_fd=descriptor)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(descriptor)
    return listener
