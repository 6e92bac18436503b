"""Folders of the host that something else can write to: reached through descriptors, never through a link out of them.

A container that writes to a volume can put a symbolic link in the place of any file between two system calls. So a
``Folder`` keeps a descriptor, and every path below it is resolved by the kernel with ``RESOLVE_BENEATH``, or, on a
kernel without ``openat2``, one name at a time with ``O_NOFOLLOW``. Source: openat2(2), and the advisories for
CVE-2017-1002101 and CVE-2021-25741.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Self

_OPENAT2 = 437
_NO_XDEV, _NO_MAGIC_LINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8
_RETRIES = 32
_MAX_LINKS = 40
_BATCH = 1024
O_PATH = getattr(os, "O_PATH", 0o10000000)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(root: int, path: str, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    call = _libc().syscall
    for _ in range(_RETRIES):
        opened = call(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if opened >= 0:
            return int(opened)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed while the kernel walked
            break
    raise OSError(number, os.strerror(number), path)


@cache
def kernel_resolves() -> bool:
    """Whether the kernel has ``openat2`` (Linux 5.6), and lets this process call it."""
    try:
        root = os.open("/", O_PATH)
        try:
            os.close(_openat2(root, ".", O_PATH, 0, _BENEATH))
        finally:
            os.close(root)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            return False
        raise
    return True


def open_by_kernel(root: int, path: str, flags: int, mode: int = 0, *, follow: bool, cross: bool = True) -> int:
    """``path`` below ``root``, resolved by ``openat2``. Raises ``OSError``: EXDEV for what leads out."""
    resolve = _BENEATH | _NO_MAGIC_LINKS | (0 if follow else _NO_SYMLINKS) | (0 if cross else _NO_XDEV)
    if not follow and flags & os.O_NOFOLLOW and flags & O_PATH and not flags & os.O_DIRECTORY:
        resolve &= ~_NO_SYMLINKS  # the last name may be a link, held as a link: its folders are resolved apart
        head, _, name = path.rstrip("/").rpartition("/")
        if head:
            parent = open_by_kernel(root, head, O_PATH | os.O_DIRECTORY, follow=False, cross=cross)
            try:
                return _openat2(parent, name, flags, mode, resolve)
            finally:
                os.close(parent)
    return _openat2(root, path or ".", flags, mode, resolve)


def open_by_hand(root: int, path: str, flags: int, mode: int = 0, *, follow: bool, cross: bool = True) -> int:
    """The same, one name at a time: for kernels without ``openat2``, and for absolute links that lead back inside."""
    with _Walk(root, path, follow=follow, cross=cross) as walk:
        return walk.open(flags | os.O_CLOEXEC, mode)


class _Walk:
    """A path on its way down: ``_held`` are the folders from the root to where it is, ``_names`` what is left of it."""

    def __init__(self, root: int, path: str, *, follow: bool, cross: bool) -> None:
        if path.startswith("/"):
            raise self._error(errno.EXDEV, path)
        self._held = [os.dup(root)]
        self._names = _reversed_names(path)
        self._path = path
        self._follow = follow
        self._mount = None if cross else mount_id(root)
        self._links = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    @staticmethod
    def _error(number: int, path: str) -> OSError:
        return OSError(number, os.strerror(number), path)

    def open(self, flags: int, mode: int) -> int:
        """Walk the path and return a descriptor of its last part. Raises ``OSError``; ELOOP and EXDEV for ways out."""
        holds_links = bool(flags & os.O_NOFOLLOW and flags & O_PATH and not flags & os.O_DIRECTORY)
        while self._names:
            name = self._names.pop()
            if name == "..":
                self._up()
                continue
            last = not self._names
            if last and self._must_create(name, flags):
                return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=self._held[-1])
            inner = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._held[-1])
            kind = os.fstat(inner).st_mode
            if stat.S_ISLNK(kind) and not (last and holds_links):
                self._follow_link(inner, may_follow=not (last and flags & os.O_NOFOLLOW))
                continue
            self._held.append(inner)
            if self._mount is not None and mount_id(inner) != self._mount:
                raise self._error(errno.EXDEV, self._path)
            if last and not stat.S_ISDIR(kind):
                return self._open_last(name, flags, mode)
            if not stat.S_ISDIR(kind):
                raise self._error(errno.ENOTDIR, self._path)
        return os.open(".", flags & ~os.O_NOFOLLOW, dir_fd=self._held[-1])

    def _up(self) -> None:
        if len(self._held) == 1:
            raise self._error(errno.EXDEV, self._path)
        os.close(self._held.pop())

    def _must_create(self, name: str, flags: int) -> bool:
        if not flags & os.O_CREAT:
            return False
        try:
            os.stat(name, dir_fd=self._held[-1], follow_symlinks=False)
        except FileNotFoundError:
            return True
        return bool(flags & os.O_EXCL)

    def _follow_link(self, link: int, *, may_follow: bool) -> None:
        try:
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        self._links += 1
        if not self._follow or not may_follow or self._links > _MAX_LINKS:
            raise self._error(errno.ELOOP, self._path)
        if target.startswith("/"):
            target = self._below_root(target)
        self._names += _reversed_names(target)

    def _below_root(self, target: str) -> str:
        """An absolute link counts if it names a place below the root: the walk begins again there."""
        base = os.readlink(f"/proc/self/fd/{self._held[0]}").rstrip("/")
        if target != base and not target.startswith(f"{base}/"):
            raise self._error(errno.EXDEV, self._path)
        while len(self._held) > 1:
            self._up()
        return target[len(base) :]

    def _open_last(self, name: str, flags: int, mode: int) -> int:
        """A file: the one that was looked at, or the one that has its name now if that is no link."""
        if flags & os.O_DIRECTORY:
            raise self._error(errno.ENOTDIR, self._path)
        if flags & O_PATH:
            return self._held.pop()
        return os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=self._held[-2])


def _reversed_names(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def open_beneath(root: int, path: str, flags: int, mode: int = 0, *, follow: bool = False, cross: bool = True) -> int:
    """Open ``path`` below the folder that ``root`` is open on.

    ``follow`` lets links be followed as long as they stay below the root; without it every link is refused with ELOOP
    (but for a last name that is opened with ``O_PATH | O_NOFOLLOW``, which gives the link itself). ``cross`` allows
    other mounts on the way. Raises ``OSError``: EXDEV for what leads out.
    """
    if kernel_resolves():
        try:
            return open_by_kernel(root, path, flags, mode, follow=follow, cross=cross)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EAGAIN) or not follow:
                raise
    return open_by_hand(root, path, flags, mode, follow=follow, cross=cross)


def mount_id(descriptor: int) -> int:
    """The number of the mount that an open file is on (the first column of mountinfo)."""
    with open(f"/proc/self/fdinfo/{descriptor}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


class Folder:
    """A folder that is held open. Paths are relative, lie below it, and follow no link unless ``follow`` is set."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def at(cls, path: str | Path) -> Self:
        """A folder by a path of the host's own, which is trusted: links in it are followed."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def open(self, path: str, flags: int, mode: int = 0, *, follow: bool = False) -> int:
        return open_beneath(self.descriptor, path, flags, mode, follow=follow)

    def folder(self, path: str, *, follow: bool = False, cross: bool = True) -> Folder:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return Folder(open_beneath(self.descriptor, path, flags, follow=follow, cross=cross))

    def make_folders(self, path: str, mode: int, *, follow: bool = False) -> Folder:
        """``path``, with what is missing of it made: with ``mode``, whatever the umask, set through its descriptor."""
        done = ""
        current = self.folder(".")
        for name in (part for part in path.split("/") if part not in ("", ".")):
            try:
                done = f"{done}/{name}" if done else name
                inner = self._make_folder(current, name, done, mode, follow=follow)
            finally:
                os.close(current.descriptor)
            current = inner
        return current

    def _make_folder(self, parent: Folder, name: str, path: str, mode: int, *, follow: bool) -> Folder:
        try:
            return self.folder(path, follow=follow)
        except FileNotFoundError:
            pass
        try:
            os.mkdir(name, 0o700, dir_fd=parent.descriptor)
        except FileExistsError:  # made by somebody else just now, or a link that leads nowhere
            return self.folder(path, follow=follow)
        made = parent.folder(name)
        os.fchmod(made.descriptor, mode)
        return made

    def make_file(self, path: str, mode: int) -> int:
        """A new, empty file that is open for writing. Raises ``FileExistsError`` also for a link of that name."""
        descriptor = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        os.fchmod(descriptor, mode)
        return descriptor

    def open_regular(self, path: str, *, follow: bool = False) -> int:
        """A regular file, open for reading. Raises ``OSError`` for anything else; a pipe is never waited for."""
        descriptor = self.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, follow=follow)
        return _only_regular(descriptor, path)

    def rename(self, name: str, new: str) -> None:
        """Both are names in this folder itself; a link is renamed, not followed."""
        os.rename(name, new, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """A name in this folder itself; a link is removed, not followed."""
        os.unlink(name, dir_fd=self.descriptor)

    def remove_tree(self, name: str) -> None:
        """A folder in this folder itself, with all in it, as ``remove_tree``. Raises ``OSError``, also for a link."""
        with Folder(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.descriptor)) as tree:
            _empty(tree.descriptor)
        os.rmdir(name, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        return os.listdir(self.descriptor)


def open_regular(path: str | Path) -> int:
    """A regular file by a host's path whose last name may be anything: open for reading, or ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return _only_regular(descriptor, str(path))


def _only_regular(descriptor: int, path: str) -> int:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor


class _Trail:
    """Where a walk over a tree is: the folder that is open, and how to get back up from it.

    The first ``_HELD`` levels are kept open. Below them only the identity of each folder is kept, and ".." must lead to
    it: a tree may be deeper than a process may have files, and somebody may move it while it is walked.
    """

    _HELD = 64

    def __init__(self, root: int) -> None:
        self.current = os.dup(root)
        self._above: list[tuple[int | None, tuple[int, int], str]] = []

    @property
    def depth(self) -> int:
        return len(self._above)

    def down(self, name: str) -> None:
        inner = open_beneath(self.current, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, cross=False)
        info = os.fstat(self.current)
        held = self.current if len(self._above) < self._HELD else None
        if held is None:
            os.close(self.current)
        self._above.append((held, (info.st_dev, info.st_ino), name))
        self.current = inner

    def up(self) -> str:
        """Back to the folder above; returns the name of the one that was left."""
        held, identity, name = self._above.pop()
        above = held if held is not None else os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = above
        info = os.fstat(above)
        if (info.st_dev, info.st_ino) != identity:
            raise OSError(errno.ESTALE, "the folder was moved while it was walked", name)
        return name

    def close(self) -> None:
        for descriptor in (self.current, *(held for held, _, _ in self._above if held is not None)):
            os.close(descriptor)


_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)


def walk(root: int) -> Iterator[tuple[int, str, os.stat_result]]:
    """Every entry below ``root``, a folder before what is in it: (folder that it is in, name, what it is itself).

    No link is followed and no other mount entered. What is removed or replaced meanwhile is passed over.
    """
    trail = _Trail(root)
    waiting: list[list[str]] = []
    try:
        while True:
            folders: list[str] = []
            with os.scandir(trail.current) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        info = os.stat(entry.name, dir_fd=trail.current, follow_symlinks=False)
                        if stat.S_ISDIR(info.st_mode):
                            folders.append(entry.name)
                        yield trail.current, entry.name, info
            waiting.append(folders)
            while not _next_folder(trail, waiting[-1]):
                waiting.pop()
                if not waiting:
                    return
                trail.up()
    finally:
        trail.close()


def _next_folder(trail: _Trail, names: list[str], passed_over: tuple[int, ...] = _GONE) -> bool:
    """Step down into the first of ``names`` that is still a folder."""
    while names:
        try:
            trail.down(names.pop())
        except OSError as error:
            if error.errno not in passed_over:
                raise
            continue
        return True
    return False


def remove_tree(path: str | Path) -> None:
    """Remove a folder and all in it, links as links. One that is not there is no error.

    Another mount below it is not entered: it raises ``OSError``, and what is in it stays.
    """
    path = Path(path)
    try:
        tree = Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
    except FileNotFoundError:
        return
    with tree:
        _empty(tree.descriptor)
    os.rmdir(path)


def _empty(root: int) -> None:
    trail = _Trail(root)
    waiting = [_remove_files(trail.current)]
    try:
        while True:
            if _next_folder(trail, waiting[-1], (errno.ENOENT,)):
                waiting.append(_remove_files(trail.current))
            elif left := _remove_files(trail.current):  # the batch is done: what else is there?
                waiting[-1] = left
            elif trail.depth:
                waiting.pop()
                name = trail.up()
                os.rmdir(name, dir_fd=trail.current)
            else:
                return
    finally:
        trail.close()


def _remove_files(folder: int) -> list[str]:
    """Remove what is no folder; returns the names of some of the folders, and of none only if nothing is left."""
    while True:
        with os.scandir(folder) as entries:
            batch = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(entries, _BATCH)]
        for name, is_folder in batch:
            if not is_folder:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
        folders = [name for name, is_folder in batch if is_folder]
        if folders or not batch:
            return folders
