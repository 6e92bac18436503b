"""mount(2) and umount(2), and which mounts there are. Raises ``OSError`` with the kernel's reason.

Both ends of a mount are descriptors: what was looked at is what is mounted, and it is looked at again afterwards.
Nothing is unmounted through a link, which a container may have put on the way. Source: mount(2), umount(2), proc(5)
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tiphys.runtime.system.folders import O_PATH, Folder, mount_id

MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8
_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount_tmpfs(folder: Folder, name: str, options: str = "") -> None:
    """Mount an empty tmpfs on the folder ``name`` of ``folder``."""
    target = folder.open(name, O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        place = os.fsencode(f"/proc/self/fd/{target}")
        # "noswap" keeps secrets out of swap, on kernels that have it (6.4).
        wanted = ",".join(part for part in (options, "noswap") if part)
        if _libc().mount(b"tmpfs", place, b"tmpfs", 0, wanted.encode()) != 0:
            _check(_libc().mount(b"tmpfs", place, b"tmpfs", 0, options.encode()), name)
    finally:
        os.close(target)
    if not is_mounted(folder, name):
        raise OSError(errno.ESTALE, "was replaced while it was mounted", name)


def is_mounted(folder: Folder, name: str) -> bool:
    """Whether something is mounted on ``name`` of ``folder``."""
    try:
        opened = folder.open(name, O_PATH | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return mount_id(opened) != mount_id(folder.descriptor)
    finally:
        os.close(opened)


def bind(source: int, folder: Folder, name: str) -> None:
    """Mount the file or folder that ``source`` is open on at ``name`` of ``folder``, which exists and is no link."""
    if stat.S_ISLNK(os.fstat(source).st_mode):
        raise OSError(errno.ELOOP, "a link cannot be mounted", name)
    target = folder.open(name, O_PATH | os.O_NOFOLLOW)
    try:
        if stat.S_ISLNK(os.fstat(target).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        places = (os.fsencode(f"/proc/self/fd/{descriptor}") for descriptor in (source, target))
        _check(_libc().mount(*places, b"", MS_BIND, None), name)
    finally:
        os.close(target)
    if not is_bound(source, folder, name):
        if is_mounted(folder, name):
            unmount(folder, name)
        raise OSError(errno.ESTALE, "was replaced while it was mounted", name)


def make_read_only(folder: Folder, name: str) -> None:
    """Let nobody write through what is bound at ``name`` of ``folder``; its source stays as it is."""
    target = folder.open(name, O_PATH | os.O_NOFOLLOW)
    try:
        place = os.fsencode(f"/proc/self/fd/{target}")
        _check(_libc().mount(None, place, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None), name)
    finally:
        os.close(target)


def is_bound(source: int, folder: Folder, name: str) -> bool:
    """Whether what is mounted at ``name`` of ``folder`` is the file that ``source`` is open on, still linked or not."""
    target = folder.open(name, O_PATH | os.O_NOFOLLOW)
    try:
        wanted, bound = os.fstat(source), os.fstat(target)
        same = (wanted.st_dev, wanted.st_ino) == (bound.st_dev, bound.st_ino)
        return same and mount_id(target) != mount_id(folder.descriptor)
    finally:
        os.close(target)


def unmount(folder: Folder, name: str, *, lazily: bool = True) -> None:
    """Take what is mounted on ``name`` of ``folder`` away; what still uses the mount keeps it until it ends.

    A link is never followed: neither one of that name, nor one that is itself mounted there. Raises ``OSError``:
    EINVAL if nothing is mounted there, and, unless this is done ``lazily``, EBUSY if something uses it.
    """
    before = _mounted_at(folder, name)
    if before == mount_id(folder.descriptor):
        raise OSError(errno.EINVAL, "not mounted", name)
    place = os.fsencode(f"/proc/self/fd/{folder.descriptor}/{name}")
    _check(_libc().umount2(place, (MNT_DETACH if lazily else 0) | UMOUNT_NOFOLLOW), name)
    if _mounted_at(folder, name) == before:
        raise OSError(errno.EBUSY, "still mounted", name)


def _mounted_at(folder: Folder, name: str) -> int:
    opened = folder.open(name, O_PATH | os.O_NOFOLLOW)
    try:
        return mount_id(opened)
    finally:
        os.close(opened)


@dataclass(frozen=True, slots=True)
class StillMounted:
    """A mount that could not be removed, and why."""

    path: str
    error: OSError


def unmount_below(root: Path) -> list[StillMounted]:
    """Remove every mount below ``root``, the newest and deepest first; returns those that are left."""
    left = []
    for path in mounts_below(root):
        inside = path[len(str(root)) + 1 :]
        parent, _, name = inside.rpartition("/")
        try:
            with Folder.at(root) as top, top.folder(parent or ".") as folder:
                unmount(folder, name)
        except OSError as error:
            left.append(StillMounted(path, error))
    still = set(mounts_below(root)) if left else set()  # one that went with another is no failure
    return [mount for mount in left if mount.path in still]


def mount_points(source: str = "") -> list[str]:
    """Every mount of this process's namespace, in the order in which they were made; of ``source`` alone if given."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        if source and line.partition(" - ")[2].split(" ")[1:2] != [source]:
            continue
        path = line.split(" ", 5)[4]
        if "\\" in path:
            for escape, char in _ESCAPES.items():
                path = path.replace(escape, char)
        points.append(path)
    return points


def device_of(number: int) -> Path | None:
    """The device of a mounted file system by the number that ``stat`` shows; None if no device is mounted so."""
    wanted = f"{os.major(number)}:{os.minor(number)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        if line.split(" ", 3)[2] == wanted:
            source = line.partition(" - ")[2].split(" ")[1]
            return Path(source) if source.startswith("/") else None
    return None


def mounts_below(root: Path) -> list[str]:
    """Mount points below ``root`` (not ``root`` itself), in the order in which they can be removed."""
    prefix = f"{root}/"
    inside = [path for path in mount_points() if path.startswith(prefix)]
    inside.reverse()
    return sorted(inside, key=lambda path: path.count("/"), reverse=True)
