"""hostPath: a file or folder of the node. Source: https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.runtime.system.folders import Folder

_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _create(place: Path, *, is_folder: bool) -> None:
    """What is missing of a path. A link that leads nowhere is refused: another pod may have put it there."""
    existing = next(parent for parent in place.parents if parent.is_dir())
    missing = str(place.relative_to(existing))
    with Folder.at(existing) as base:
        if is_folder:
            base.make_folders(missing, 0o755).close()
        else:
            os.close(base.make_file(missing, 0o644))


def prepare_host_path(path: str, kind: str) -> Path:
    """Check or make the path by its type. Raises ``MountFailure`` with upstream's message."""
    place = Path(path)
    if kind.endswith("OrCreate") and not place.exists():
        _create(place, is_folder=kind.startswith("Directory"))
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
