"""A folder of files that is replaced in one step: readers see the old files or the new ones, never a mixture.

The files live in a folder named for the time, ``..data`` is a symbolic link to it, and each visible name is a link
through ``..data``. Replacing the one link ``..data`` replaces everything. Containers rely on this layout: they watch
``..data``. Source: https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DATA = "..data"
_NEW_DATA = "..data_tmp"


@dataclass(frozen=True, slots=True)
class FileProjection:
    """One file: its bytes, permission bits, and the user that is to own it (None: root)."""

    data: bytes
    mode: int
    owner: int | None = None


Payload = Mapping[str, FileProjection]
"""Files by relative path."""


class PathError(ValueError):
    """A path leads out of the volume, or is otherwise not allowed."""


def check_path(path: str) -> str:
    """The path in its plain form. Raises ``PathError`` for one that is absolute, empty, or steps back."""
    if not path:
        raise PathError(f"invalid path: must not be empty: {path!r}")
    if path.startswith("/"):
        raise PathError(f"invalid path: must be relative path: {path}")
    parts = PurePosixPath(path).parts
    if ".." in parts:
        raise PathError(f"invalid path: must not contain '..': {path}")
    if parts[0].startswith(".."):
        raise PathError(f"invalid path: must not start with '..': {path}")
    return str(PurePosixPath(path))


def write_payload(
    target: Path, payload: Payload, now: float, set_permissions: Callable[[Path], None] | None = None
) -> bool:
    """Make ``target`` hold exactly ``payload``; gives whether anything changed.

    ``set_permissions`` is called with the folder of the new files before they become visible.
    """
    files = {check_path(path): file for path, file in payload.items()}
    link = target / DATA
    current = target / os.readlink(link) if link.is_symlink() else None
    if current is not None and _same(current, files):
        _link_names(target, files)
        return False
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime(now))
    fresh = Path(tempfile.mkdtemp(prefix=stamp, dir=target))
    fresh.chmod(0o755)
    for path, file in files.items():
        _write(fresh / path, file)
    if set_permissions is not None:
        set_permissions(fresh)
    temporary = target / _NEW_DATA
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.rename(link)
    _link_names(target, files)
    if current is not None:
        shutil.rmtree(current, ignore_errors=True)
    return True


def _same(folder: Path, files: Mapping[str, FileProjection]) -> bool:
    if not folder.is_dir():
        return False
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return present == set(files) and all((folder / path).read_bytes() == file.data for path, file in files.items())


def _write(path: Path, file: FileProjection) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            stream.write(file.data)
        os.fchmod(descriptor, file.mode)
        if file.owner is not None:
            os.fchown(descriptor, file.owner, -1)
    finally:
        os.close(descriptor)


def _link_names(target: Path, files: Mapping[str, FileProjection]) -> None:
    """A link for the first part of each path; links to what no longer exists are removed."""
    wanted = {PurePosixPath(path).parts[0] for path in files}
    for entry in os.scandir(target):
        if not entry.name.startswith("..") and entry.is_symlink() and entry.name not in wanted:
            os.unlink(entry.path)
    for name in wanted:
        if not (target / name).is_symlink():
            (target / name).symlink_to(f"{DATA}/{name}")
