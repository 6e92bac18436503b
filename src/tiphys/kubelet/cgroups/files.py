"""Cgroups by the kernel's own files: makes them with their limits, says whether they have them, and removes them.

Version 2 has one hierarchy, version 1 one for each controller. Source: the kernel's cgroup-v1 and cgroup-v2 documents.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tiphys.kubelet.cgroups.limits import CgroupLimits, version_1, version_2
from tiphys.kubelet.cgroups.names import Name, path_of

_V1_CONTROLLERS = ("cpu", "memory", "pids")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")
CGROUPS = Path("/sys/fs/cgroup")


class CgroupFiles:
    """The driver ``cgroupfs``. ``path`` is one from the top of the hierarchy, such as ``/kubepods/burstable/pod1``."""

    def __init__(self, mount: Path = CGROUPS) -> None:
        self._mount = mount
        self.unified = (mount / "cgroup.controllers").exists()
        """Whether there is one hierarchy: version 2."""

    async def apply(self, name: Name, limits: CgroupLimits) -> None:
        self.write(path_of(name), limits)

    def has_cgroup(self, name: Name) -> bool:
        return self.exists(path_of(name))

    async def remove(self, name: Name) -> None:
        self.remove_path(path_of(name))

    async def close(self) -> None:
        """Nothing is kept open."""

    def write(self, path: str, limits: CgroupLimits) -> None:
        """Make the cgroup, if it is not there, and give it limits. Raises ``OSError``."""
        for folder in self._folders(path):
            self._make(folder)
        for file, text in self._differing(path, limits):
            with contextlib.suppress(OSError):  # a limit below what is in use now is refused by the kernel
                file.write_text(text)

    def has(self, path: str, limits: CgroupLimits) -> bool:
        """Whether the cgroup is there, with these limits. Raises ``OSError``."""
        return self.exists(path) and not any(self._differing(path, limits))

    def exists(self, path: str) -> bool:
        """Whether the cgroup is there in every hierarchy."""
        return all(folder.is_dir() for folder in self._folders(path))

    def is_anywhere(self, path: str) -> bool:
        """Whether any hierarchy has the cgroup."""
        return any(True for _ in self._everywhere(path))

    def _differing(self, path: str, limits: CgroupLimits) -> Iterator[tuple[Path, str]]:
        values = version_2(limits) if self.unified else version_1(limits)
        for folder in self._folders(path):
            for name, text in values.items():
                file = folder / name
                if file.exists() and file.read_text().strip() != text:
                    yield file, text

    def _folders(self, path: str) -> list[Path]:
        inside = path.strip("/")
        if self.unified:
            return [self._mount / inside]
        return [self._mount / c / inside for c in _V1_CONTROLLERS if (self._mount / c).is_dir()]

    def _make(self, folder: Path) -> None:
        """With all of its parents. In version 2 these hand their controllers on."""
        if folder.parent != self._mount and not folder.parent.is_dir():
            self._make(folder.parent)
        if self.unified:
            _hand_on(folder.parent)
        folder.mkdir(exist_ok=True)

    def remove_path(self, path: str) -> None:
        """End what is left in a cgroup, and remove it. Raises ``OSError`` until all of it has ended.

        Something is left when the runtime was killed while it made a container: a process that nobody knows of.
        """
        for folder in self._everywhere(path):
            for inner in _deepest_first(folder):
                _kill_processes(inner)
                inner.rmdir()

    def kill(self, path: str) -> None:
        """End what is left in a cgroup and below it."""
        for folder in self._everywhere(path):
            for inner in _deepest_first(folder):
                _kill_processes(inner)

    def _everywhere(self, path: str) -> Iterator[Path]:
        """The runtime makes a cgroup in more hierarchies than we do."""
        tops = [self._mount] if self.unified else [entry for entry in self._mount.iterdir() if entry.is_dir()]
        yield from (folder for top in tops if (folder := top / path.strip("/")).is_dir())


def _hand_on(parent: Path) -> None:
    available = (parent / "cgroup.controllers").read_text().split()
    enabled = (parent / "cgroup.subtree_control").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in available and controller not in enabled:
            with contextlib.suppress(OSError):
                (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _deepest_first(folder: Path) -> list[Path]:
    return sorted((path for path in (folder, *folder.rglob("*")) if path.is_dir()), reverse=True)


def _kill_processes(cgroup: Path) -> None:
    inside = cgroup / "cgroup.procs"
    for pid in inside.read_text().split() if inside.exists() else ():
        if int(pid):  # 0 stands for processes of another process namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
