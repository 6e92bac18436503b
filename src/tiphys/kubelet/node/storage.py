"""What pods use of the node's disks: measured off the loop, and seldom if it takes long.

Files are counted as ``du`` does: by the blocks that they take, each inode once. A pod may write its volumes meanwhile,
so they are walked through descriptors. Source: the summary API, and
https://kubernetes.io/docs/concepts/storage/ephemeral-storage/
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.kubelet.container.runtime_config import log_folder
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.runtime.clock import Clock
from tiphys.runtime.system.folders import Folder, walk
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_BLOCK = 512
_CSI = "kubernetes.io~csi"
_IMAGE = "kubernetes.io~image"
_AT_ONCE = 2
_SHARE = 10
"""A measurement that took a second is not done again for this many seconds."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes and inodes that are in use."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: DiskUse) -> DiskUse:
        return DiskUse(self.bytes + other.bytes, self.inodes + other.inodes)


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A whole filesystem, in bytes and inodes."""

    capacity: int
    available: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class VolumeUse:
    use: DiskUse
    filesystem: Filesystem


@dataclass(frozen=True, slots=True)
class PodStorage:
    """``volumes`` by name, ``logs`` by container; ``other`` is what the kubelet keeps of the pod (/etc/hosts)."""

    volumes: Mapping[str, VolumeUse] = field(default_factory=dict)
    logs: Mapping[str, DiskUse] = field(default_factory=dict)
    other: DiskUse = DiskUse()
    measured_at: float = 0.0


def filesystem_of(path: Path | str | int) -> Filesystem:
    info = os.statvfs(path)
    return Filesystem(info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize, info.f_files, info.f_ffree)


def disk_use(folder: Folder, stopped: Callable[[], bool] = lambda: False) -> DiskUse:
    """The folder and all below it on the same mount. Raises ``OSError``; ECANCELED once it is ``stopped``."""
    blocks, inodes = os.fstat(folder.descriptor).st_blocks, 1
    linked: set[tuple[int, int]] = set()
    for _, _, info in walk(folder.descriptor):
        if stopped():
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            if (info.st_dev, info.st_ino) in linked:
                continue
            linked.add((info.st_dev, info.st_ino))
        blocks += info.st_blocks
        inodes += 1
    return DiskUse(blocks * _BLOCK, inodes)


def measure_pod(
    root: Path, log_root: Path, pod: Pod, now: float, stopped: Callable[[], bool] = lambda: False
) -> PodStorage:
    """Everything that the node keeps for a pod beside its containers' own layers. Blocks while it is measured."""
    own = root / "pods" / pods.uid_of(pod)
    volumes = {}
    for plugin in _folders(own / "volumes"):
        if plugin.name in (_CSI, _IMAGE):
            continue  # drivers measure theirs, and an image is not the pod's
        for volume in _folders(plugin):
            with Folder.at(volume) as folder:
                volumes[volume.name] = VolumeUse(disk_use(folder, stopped), filesystem_of(folder.descriptor))
    logs = {}
    for container in _folders(log_root / log_folder(pod)):
        with Folder.at(container) as folder:
            logs[container.name] = disk_use(folder, stopped)
    hosts = own / "etc-hosts"
    other = DiskUse(os.lstat(hosts).st_blocks * _BLOCK, 1) if hosts.exists() else DiskUse()
    return PodStorage(volumes, logs, other, now)


def _folders(path: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


class StorageMeter:
    """Keeps the last measurement of each pod. ``root`` is the kubelet's folder, ``log_root`` that of pods' logs.

    A pod with very many files takes long: whoever asks waits for it a while and then has what is known.
    """

    def __init__(self, root: Path, log_root: Path, clock: Clock, runner: Runner) -> None:
        self._root = root
        self._log_root = log_root
        self._clock = clock
        self._runner = runner
        self._known: dict[str, PodStorage] = {}
        self._not_before: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def measure(self, wanted: Iterable[Pod], max_age: float, patience: float = 2.0) -> dict[str, PodStorage]:
        """By uid; what is younger than ``max_age`` seconds is not measured again. What is not known yet is left out.

        Returns after ``patience`` seconds at the latest.
        """
        uids = []
        for pod in wanted:
            uid = pods.uid_of(pod)
            uids.append(uid)
            if uid not in self._running and self._is_due(uid, max_age):
                self._running[uid] = self._runner.spawn(self._measure(pod), f"storage of pod {pods.key_of(pod)}")
        tasks = [self._running[uid] for uid in uids if uid in self._running]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        return {uid: self._known[uid] for uid in uids if uid in self._known}

    def _is_due(self, uid: str, max_age: float) -> bool:
        now, known = self._clock.monotonic(), self._known.get(uid)
        return now >= self._not_before.get(uid, now) and (known is None or now - known.measured_at >= max_age)

    async def _measure(self, pod: Pod) -> None:
        uid, stop = pods.uid_of(pod), threading.Event()
        try:
            async with self._slots:
                began = self._clock.monotonic()
                place = (self._root, self._log_root)
                measured = await asyncio.to_thread(measure_pod, *place, pod, began, stop.is_set)
                now = self._clock.monotonic()
        except OSError as error:
            log.warning("cannot measure what pod %s stores: %s", pods.key_of(pod), error)
        else:
            if uid in self._running:  # not forgotten meanwhile
                self._known[uid] = measured
                self._not_before[uid] = now + _SHARE * (now - began)
        finally:
            stop.set()  # a walk that nobody waits for any more must not hold up the kubelet's end
            self._running.pop(uid, None)

    def forget(self, uid: str) -> None:
        for table in (self._known, self._not_before, self._running):
            table.pop(uid, None)
