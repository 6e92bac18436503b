"""hostPath: a file or folder of the node. Source: https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types"""

from __future__ import annotations

import stat
from pathlib import Path

from tiphys.kubelet.volumes.payloads import MountFailure

_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def prepare_host_path(path: str, kind: str) -> Path:
    """Check or make the path by its type. Raises ``MountFailure`` with upstream's message."""
    place = Path(path)
    if kind == "DirectoryOrCreate" and not place.exists():
        place.mkdir(mode=0o755, parents=True)
    if kind == "FileOrCreate" and not place.exists():
        place.touch(mode=0o644)
    check, words = _CHECKS.get(kind.removesuffix("OrCreate"), (None, ""))
    if check is None:
        return place
    try:
        mode = place.stat().st_mode
    except OSError:
        mode = 0
    if not check(mode):
        raise MountFailure(f"hostPath type check failed: {path} is not {words}")
    return place
