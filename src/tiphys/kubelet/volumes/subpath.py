"""subPath: a part of a volume, mounted without letting a symbolic link lead out of the volume.

The path is resolved once, checked to lie in the volume, opened part by part without following links, and the open file
is bound into the pod's own folder: what a container does to the volume afterwards cannot change what is mounted.
Source: the advisory for CVE-2017-1002101.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from tiphys.kubelet.volumes.mounts import bind, mount_points
from tiphys.kubelet.volumes.payloads import MountFailure

_O_PATH = getattr(os, "O_PATH", 0o10000000)


def check_subpath(path: str) -> None:
    if path.startswith("/"):
        raise MountFailure(f"error SubPath `{path}` must not be an absolute path")
    if ".." in PurePosixPath(path).parts:
        raise MountFailure(f"unable to provision SubPath `{path}`: must not contain '..'")


def bind_subpath(volume: Path, path: str, target: Path, read_only_volume: bool = False) -> Path:
    """Bind ``path`` of ``volume`` at ``target`` (a folder is made where it is missing); gives ``target``."""
    check_subpath(path)
    base = volume.resolve()
    wanted = base / path
    if not wanted.exists() and not read_only_volume:
        _make_folder(base, path)
    resolved = wanted.resolve()
    if resolved != base and base not in resolved.parents:
        raise MountFailure(f"failed to prepare subPath {path}: it leads out of its volume")
    descriptor = _open_inside(base, resolved.relative_to(base))
    try:
        if str(target) in mount_points():
            return target
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        bind(f"/proc/self/fd/{descriptor}", target)
    finally:
        os.close(descriptor)
    return target


def _make_folder(base: Path, path: str) -> None:
    """Make the folders of ``path`` with the volume's own mode, never through a link."""
    mode = base.stat().st_mode & 0o7777
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in PurePosixPath(path).parts:
            try:
                os.mkdir(part, dir_fd=descriptor)
                os.chmod(part, mode, dir_fd=descriptor)
            except FileExistsError:
                pass
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError as error:
        raise MountFailure(f"failed to create subPath directory {path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _open_inside(base: Path, inside: Path) -> int:
    descriptor = os.open(base, _O_PATH | os.O_NOFOLLOW)
    try:
        for part in inside.parts:
            inner = os.open(part, _O_PATH | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
    except OSError as error:
        os.close(descriptor)
        raise MountFailure(f"failed to open subPath {inside}: {error.strerror}") from error
    if os.path.islink(f"/proc/self/fd/{descriptor}") and not os.path.exists(f"/proc/self/fd/{descriptor}"):
        os.close(descriptor)
        raise MountFailure(f"failed to open subPath {inside}: it was removed")
    return descriptor
