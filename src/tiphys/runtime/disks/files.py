"""The volumes and snapshots on a node's disk, each a folder of its own with what is known of it in a small file.

A volume's content is an ``image``, a sparse file with a file system in it or a block device's bytes, so that its size
is a limit; or, on machines without loop devices, a plain folder ``data``, whose size nobody enforces. The content is
made under another name and renamed when it is whole: what was interrupted is made from scratch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tiphys.runtime.disks import programs
from tiphys.runtime.system.folders import remove_tree

IMAGE, DIRECTORY = "image", "directory"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_MIB = 1 << 20
LEAST_BYTES = 16 * _MIB
"""A file system needs some room for itself."""


class NoSuchVolume(LookupError):
    """No volume or snapshot of this id is on this node."""


class Taken(ValueError):
    """The id belongs to something that is not what is asked for."""


@dataclass(frozen=True, slots=True)
class LocalVolume:
    """``capacity`` in bytes; ``format`` is ``image`` or ``directory``; ``source`` is what it was copied of, if so."""

    id: str
    capacity: int
    format: str
    block: bool = False
    source: str = ""
    ephemeral: bool = False
    """It stands in a pod, and goes with it."""


@dataclass(frozen=True, slots=True)
class LocalSnapshot:
    """``created`` in seconds since the Unix epoch."""

    id: str
    volume: str
    size: int
    format: str
    block: bool
    created: float


def rounded(size: int) -> int:
    """Whole MiB, and no less than a file system needs."""
    return max(-(-size // _MIB) * _MIB, LEAST_BYTES)


class VolumeStore:
    """Everything below ``root``. Blocks; the caller sees to it that each volume is worked on once at a time."""

    def __init__(self, root: Path) -> None:
        self._volumes = root / "volumes"
        self._snapshots = root / "snapshots"
        for folder in (self._volumes, self._snapshots):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Volumes

    def get(self, id: str) -> LocalVolume:
        """Raises ``NoSuchVolume``."""
        return LocalVolume(**_load(self._folder(self._volumes, id), id))

    def content(self, volume: LocalVolume) -> Path:
        return self._folder(self._volumes, volume.id) / _content(volume.format)

    def all(self) -> Iterator[LocalVolume]:
        for folder in sorted(self._volumes.iterdir()):
            try:
                yield self.get(folder.name)
            except NoSuchVolume:
                continue

    def create(self, volume: LocalVolume, copy_of: Path | None) -> LocalVolume:
        """Make a volume, or return the one that there is. Raises ``Taken`` if that is another."""
        try:
            existing = self.get(volume.id)
        except NoSuchVolume:
            pass
        else:
            if (existing.block, existing.source) != (
                volume.block,
                volume.source,
            ) or existing.capacity < volume.capacity:
                raise Taken(f"volume {volume.id} exists, and is not what was asked for")
            return existing
        folder = self._fresh(self._volumes, volume.id)
        content = folder / _content(volume.format)
        if copy_of is not None:
            _copy(copy_of, content, volume.format)
        if volume.format == IMAGE:
            _make_image(content, volume, copied=copy_of is not None)
        elif copy_of is None:
            content.mkdir(mode=0o777)
            content.chmod(0o777)
        _save(folder, asdict(volume))
        return volume

    def grow(self, volume: LocalVolume, capacity: int) -> LocalVolume:
        """To ``capacity`` bytes; a volume never shrinks."""
        if capacity <= volume.capacity:
            return volume
        grown = replace(volume, capacity=capacity)
        if volume.format == IMAGE:
            os.truncate(self.content(volume), capacity)
        _save(self._folder(self._volumes, volume.id), asdict(grown))
        return grown

    def delete(self, id: str) -> None:
        remove_tree(self._folder(self._volumes, id))

    def reserved(self) -> int:
        """Bytes that volumes may yet take: what they were promised and do not use."""
        return sum(
            max(0, volume.capacity - _used(self.content(volume))) for volume in self.all() if volume.format == IMAGE
        )

    def available(self) -> int:
        """Bytes that a new volume may have."""
        info = os.statvfs(self._volumes)
        return max(0, info.f_bavail * info.f_frsize - self.reserved())

    # Snapshots

    def get_snapshot(self, id: str) -> LocalSnapshot:
        """Raises ``NoSuchVolume``."""
        return LocalSnapshot(**_load(self._folder(self._snapshots, id), id))

    def snapshot_content(self, snapshot: LocalSnapshot) -> Path:
        return self._folder(self._snapshots, snapshot.id) / _content(snapshot.format)

    def all_snapshots(self) -> Iterator[LocalSnapshot]:
        for folder in sorted(self._snapshots.iterdir()):
            try:
                yield self.get_snapshot(folder.name)
            except NoSuchVolume:
                continue

    def take_snapshot(self, id: str, volume: LocalVolume, now: float, still: Callable[[], None]) -> LocalSnapshot:
        """Copy a volume, or return the snapshot that there is. ``still`` is called when the copy may begin.

        Raises ``Taken``.
        """
        try:
            existing = self.get_snapshot(id)
        except NoSuchVolume:
            pass
        else:
            if existing.volume != volume.id:
                raise Taken(f"snapshot {id} exists, and is of volume {existing.volume}")
            return existing
        folder = self._fresh(self._snapshots, id)
        still()
        _copy(self.content(volume), folder / _content(volume.format), volume.format)
        snapshot = LocalSnapshot(id, volume.id, volume.capacity, volume.format, volume.block, now)
        _save(folder, asdict(snapshot))
        return snapshot

    def delete_snapshot(self, id: str) -> None:
        remove_tree(self._folder(self._snapshots, id))

    def _folder(self, parent: Path, id: str) -> Path:
        if not _ID.match(id):
            raise NoSuchVolume(f"{id!r} is not the id of a volume")
        return parent / id

    def _fresh(self, parent: Path, id: str) -> Path:
        """An empty folder: what is in it without a description was never finished."""
        folder = self._folder(parent, id)
        remove_tree(folder)
        folder.mkdir(mode=0o700)
        return folder


def _content(format: str) -> str:
    return "image" if format == IMAGE else "data"


def _make_image(image: Path, volume: LocalVolume, *, copied: bool) -> None:
    with image.open("ab") as file:
        file.truncate(max(volume.capacity, file.tell()))
    if not copied and not volume.block:
        programs.make_filesystem(image)


def _copy(source: Path, target: Path, format: str) -> None:
    if format == IMAGE:
        programs.copy_file(source, target)
    else:
        programs.copy_folder(source, target)


def _used(image: Path) -> int:
    try:
        return image.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _load(folder: Path, id: str) -> dict[str, Any]:
    try:
        data = json.loads((folder / "about.json").read_bytes())
    except (OSError, ValueError) as error:
        raise NoSuchVolume(f"there is no {id} on this node") from error
    return dict(data)


def _save(folder: Path, about: dict[str, object]) -> None:
    """Last, and durable: with it the content counts."""
    temporary = folder / ".about.json"
    with temporary.open("w") as file:
        json.dump(about, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "about.json")
