"""mount(2) and umount(2), and which mounts there are. Raises ``OSError`` with the kernel's reason."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

MS_BIND = 4096
MNT_DETACH = 2
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount_tmpfs(target: Path, options: str = "") -> None:
    _check(_libc().mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, options.encode()), str(target))


def bind(source: str, target: Path) -> None:
    """Bind ``source`` (a path, or ``/proc/self/fd/N``) at ``target``."""
    _check(_libc().mount(os.fsencode(source), os.fsencode(target), b"", MS_BIND, None), str(target))


def unmount(target: str) -> None:
    """Unmount; what still uses the mount keeps it until it ends."""
    _check(_libc().umount2(os.fsencode(target), MNT_DETACH), target)


def mount_points() -> list[str]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = line.split(" ", 5)[4]
        if "\\" in path:
            for escape, char in _ESCAPES.items():
                path = path.replace(escape, char)
        found.append(path)
    return found


def mounts_under(folder: Path) -> list[str]:
    """Mount points at or below ``folder``, deepest first."""
    prefix = str(folder)
    inside = [path for path in mount_points() if path == prefix or path.startswith(f"{prefix}/")]
    return sorted(inside, key=len, reverse=True)
