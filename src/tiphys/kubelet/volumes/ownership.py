"""fsGroup: files of a volume belong to a group of the pod, which may read and write them.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from tiphys.runtime.system.folders import O_PATH, Folder, walk

_READ_WRITE = 0o660
_READ_ONLY = 0o440
_ENTER = 0o110
_SET_GROUP_ID = 0o2000


def give_to_group(folder: Path, group: int, *, read_only: bool = False) -> None:
    """Give ``folder`` and all in it to ``group``; folders pass the group on to what is made in them.

    A container may change the volume meanwhile: each file is changed through a descriptor that is no link.
    """
    with Folder.at(folder) as top:
        _give(top.descriptor, ".", group, read_only=read_only)
        for parent, name, _ in walk(top.descriptor):
            with contextlib.suppress(FileNotFoundError):
                _give(parent, name, group, read_only=read_only)


def already_given(folder: Path, group: int) -> bool:
    """Whether the top of the volume has the right group and mode (fsGroupChangePolicy: OnRootMismatch)."""
    info = folder.stat()
    wanted = _READ_WRITE | _ENTER | _SET_GROUP_ID
    return info.st_gid == group and info.st_mode & wanted == wanted


def _give(parent: int, name: str, group: int, *, read_only: bool) -> None:
    file = os.open(name, O_PATH | os.O_NOFOLLOW, dir_fd=parent)
    try:
        info = os.fstat(file)
        if stat.S_ISLNK(info.st_mode):
            os.chown(name, -1, group, dir_fd=parent, follow_symlinks=False)
            return
        exact = f"/proc/self/fd/{file}"
        os.chown(exact, -1, group)
        mode = _READ_ONLY if read_only else _READ_WRITE
        if stat.S_ISDIR(info.st_mode):
            mode |= _ENTER | _SET_GROUP_ID
        os.chmod(exact, stat.S_IMODE(info.st_mode) | mode)
    finally:
        os.close(file)
