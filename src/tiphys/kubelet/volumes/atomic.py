"""A folder of files that is replaced in one step: readers see the old files or the new ones, never a mixture.

The files live in a folder named for the time, ``..data`` is a symbolic link to it, and each visible name is a link
through ``..data``. Replacing the one link ``..data`` replaces everything. Containers rely on this layout: they watch
``..data``. Source: https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tiphys.runtime.system.folders import Folder, walk

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
    target: Path, payload: Payload, now: float, set_permissions: Callable[[], None] | None = None
) -> bool:
    """Make ``target`` hold exactly ``payload``; returns whether anything changed.

    ``set_permissions`` is called when the new files are there and not yet visible. A container that may write to the
    host's files can put anything in place of what is here: every file is reached from ``target`` by no link.
    """
    files = {check_path(path): file for path, file in payload.items()}
    with Folder.at(target) as folder:
        current = _current(folder)
        if current and _same(folder, current, files):
            _link_names(folder, files)
            return False
        fresh = _make_fresh(folder, files, now)
        if set_permissions is not None:
            set_permissions()
        with contextlib.suppress(FileNotFoundError):
            folder.unlink(_NEW_DATA)
        os.symlink(fresh, _NEW_DATA, dir_fd=folder.descriptor)
        folder.rename(_NEW_DATA, DATA)
        _link_names(folder, files)
        if current:
            with contextlib.suppress(OSError):
                folder.remove_tree(current)
        return True


def _current(folder: Folder) -> str:
    """The name of the folder that is shown now; empty if none is, or if the link leads elsewhere."""
    try:
        name = os.readlink(DATA, dir_fd=folder.descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
        return ""
    return name if name.startswith("..") and name != ".." and "/" not in name else ""


def _same(folder: Folder, current: str, files: Mapping[str, FileProjection]) -> bool:
    try:
        with folder.folder(current) as shown:
            present = sum(stat.S_ISREG(info.st_mode) for _, _, info in walk(shown.descriptor))
            return present == len(files) and all(_holds(shown, path, file.data) for path, file in files.items())
    except OSError:  # what is there is no such file, or no folder: it is written again
        return False


def _holds(folder: Folder, path: str, data: bytes) -> bool:
    with os.fdopen(folder.open_regular(path), "rb") as stream:
        return stream.read(len(data) + 1) == data


def _make_fresh(folder: Folder, files: Mapping[str, FileProjection], now: float) -> str:
    """A folder beside the one that is shown, with the files in it; returns its name."""
    name = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime(now)) + secrets.token_hex(4)
    with folder.make_folders(name, 0o755) as fresh:
        for path, file in files.items():
            _write(fresh, path, file)
    return name


def _write(folder: Folder, path: str, file: FileProjection) -> None:
    with folder.make_folders(str(PurePosixPath(path).parent), 0o755) as parent:
        descriptor = parent.make_file(PurePosixPath(path).name, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(file.data)
            os.fchmod(descriptor, file.mode)
            if file.owner is not None:
                os.fchown(descriptor, file.owner, -1)


def _link_names(folder: Folder, files: Mapping[str, FileProjection]) -> None:
    """A link for the first part of each path; links to what no longer exists are removed."""
    wanted = {PurePosixPath(path).parts[0] for path in files}
    links = {name for name in folder.names() if stat.S_ISLNK(folder.stat(name).st_mode)}
    for name in links - wanted:
        if not name.startswith(".."):
            folder.unlink(name)
    for name in wanted - links:
        os.symlink(f"{DATA}/{name}", name, dir_fd=folder.descriptor)
