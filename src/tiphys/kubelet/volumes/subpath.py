"""subPath: a part of a volume, mounted without letting a symbolic link lead out of the volume.

The path is resolved once, below the volume, to an open file, and that file is bound into the pod's own folder: what a
container does to the volume meanwhile or afterwards cannot change what is mounted. Source: the advisories for
CVE-2017-1002101 and CVE-2021-25741.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from tiphys.kubelet.volumes.failures import MountFailure
from tiphys.runtime.system.folders import O_PATH, Folder
from tiphys.runtime.system.mounts import bind, is_bound, is_mounted, unmount


class SubPathNotMade(MountFailure):
    """A folder that the subPath names is missing and cannot be made."""


def check_subpath(path: str) -> None:
    if path.startswith("/"):
        raise MountFailure(f"error SubPath `{path}` must not be an absolute path")
    if ".." in PurePosixPath(path).parts:
        raise MountFailure(f"unable to provision SubPath `{path}`: must not contain '..'")


def bind_subpath(volume: Path, path: str, target: Path) -> Path:
    """Bind ``path`` of ``volume`` at ``target``; gives ``target``. A folder is made if it is missing.

    What is bound there already stays if it is the same file, and is replaced if the volume has another by now. Raises
    ``MountFailure``.
    """
    check_subpath(path)
    try:
        with Folder.at(volume) as base:
            source = _open_or_make(base, path)
        try:
            _bind(source, target)
        finally:
            os.close(source)
    except OSError as error:
        why = "it leads out of its volume" if error.errno == errno.EXDEV else error.strerror
        raise MountFailure(f"failed to prepare subPath {path}: {why}") from error
    return target


def _open_or_make(base: Folder, path: str) -> int:
    """``path`` below the volume, links in it followed; what is missing becomes folders with the volume's mode."""
    try:
        return base.open(path, O_PATH, follow=True)
    except FileNotFoundError:
        mode = stat.S_IMODE(os.fstat(base.descriptor).st_mode)
        try:
            made = base.make_folders(path, mode, follow=True)
        except OSError as error:
            raise SubPathNotMade(f"failed to create subPath directory {path}: {error.strerror}") from error
        with made:
            return made.open(".", O_PATH)


def _bind(source: int, target: Path) -> None:
    """The folders above ``target`` are the kubelet's own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with Folder.at(target.parent) as folder:
        while is_mounted(folder, target.name):
            if is_bound(source, folder, target.name):
                return
            unmount(folder, target.name)
        _make_target(folder, target.name, is_folder=stat.S_ISDIR(os.fstat(source).st_mode))
        bind(source, folder, target.name)


def _make_target(folder: Folder, name: str, *, is_folder: bool) -> None:
    """A folder or file to mount on; one of the other kind was left by another version of the volume."""
    try:
        existing = folder.stat(name)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISDIR(existing.st_mode) == is_folder and not stat.S_ISLNK(existing.st_mode):
            return
        os.rmdir(name, dir_fd=folder.descriptor) if stat.S_ISDIR(existing.st_mode) else folder.unlink(name)
    if is_folder:
        os.mkdir(name, 0o755, dir_fd=folder.descriptor)
    else:
        os.close(folder.make_file(name, 0o640))
