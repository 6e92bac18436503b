"""fsGroup: files of a volume belong to a group of the pod, which may read and write them.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from __future__ import annotations

import os
from pathlib import Path

_READ_WRITE = 0o660
_READ_ONLY = 0o440
_ENTER = 0o110
_SET_GROUP_ID = 0o2000


def give_to_group(folder: Path, group: int, read_only: bool = False) -> None:
    """Give ``folder`` and all in it to ``group``; folders pass the group on to what is made in them."""
    for parent, _, names in os.walk(folder):
        _give(parent, group, read_only)
        for name in names:
            _give(os.path.join(parent, name), group, read_only)


def already_given(folder: Path, group: int) -> bool:
    """Whether the top of the volume has the right group and mode (fsGroupChangePolicy: OnRootMismatch)."""
    found = folder.stat()
    wanted = _READ_WRITE | _ENTER | _SET_GROUP_ID
    return found.st_gid == group and found.st_mode & wanted == wanted


def _give(path: str, group: int, read_only: bool) -> None:
    found = os.lstat(path)
    os.lchown(path, -1, group)
    if os.path.islink(path):
        return
    mode = _READ_ONLY if read_only else _READ_WRITE
    if os.path.isdir(path):
        mode |= _ENTER | _SET_GROUP_ID
    os.chmod(path, (found.st_mode & 0o7777) | mode)
