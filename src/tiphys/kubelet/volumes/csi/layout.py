"""Where CSI volumes are on the node. The disk is the state: what it says is what must be undone, whoever restarts.

Each volume of a pod has a ``vol_data.json`` beside its mount, and each staged volume one beside its staging folder.
They are written before the driver is called, so that an interrupted mount is undone as a finished one. All folders here
are the kubelet's own; what a container can write lies inside the mounts. The paths are upstream's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PLUGIN = "kubernetes.io~csi"
_DATA = "vol_data.json"
_LIFECYCLE, _EPHEMERAL = "volumeLifecycleMode", "Ephemeral"


@dataclass(frozen=True, slots=True)
class PodVolume:
    """A volume that a pod has, or was about to have. ``name`` is the persistent volume's, or the inline volume's."""

    pod_uid: str
    name: str
    driver: str
    handle: str
    block: bool
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class StagedVolume:
    driver: str
    handle: str
    name: str = ""
    """Only of block volumes, which are staged under the persistent volume's name."""


class Layout:
    """``root`` is the kubelet's folder."""

    def __init__(self, root: Path) -> None:
        self._pods = root / "pods"
        self._plugins = root / "plugins" / "kubernetes.io" / "csi"
        self._devices = self._plugins / "volumeDevices"

    # Paths

    def staging(self, driver: str, handle: str) -> Path:
        return self._plugins / driver / hashlib.sha256(handle.encode()).hexdigest() / "globalmount"

    def block_staging(self, name: str) -> Path:
        return self._devices / "staging" / name

    def target(self, pod_uid: str, name: str) -> Path:
        return self._pods / pod_uid / "volumes" / PLUGIN / name / "mount"

    def block_target(self, pod_uid: str, name: str) -> Path:
        return self._devices / "publish" / name / pod_uid

    def _link(self, pod_uid: str, name: str) -> Path:
        return self._pods / pod_uid / "volumeDevices" / PLUGIN / name

    def _block_data(self, name: str) -> Path:
        return self._devices / name / "data" / _DATA

    # What is noted before the driver is called, and removed after it is done.

    def note_pod(self, volume: PodVolume, more: dict[str, str]) -> Path:
        """Note that a pod is to have the volume; returns the path for the driver, whose folder exists."""
        data = {"specVolID": volume.name, "volumeHandle": volume.handle, "driverName": volume.driver, **more}
        data[_LIFECYCLE] = _EPHEMERAL if volume.ephemeral else "Persistent"
        if volume.block:
            target, link = self.block_target(volume.pod_uid, volume.name), self._link(volume.pod_uid, volume.name)
            target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            link.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            _write(self._block_data(volume.name), data)
            with contextlib.suppress(FileExistsError):
                link.symlink_to(target)
            return target
        target = self.target(volume.pod_uid, volume.name)
        _write(target.parent / _DATA, data)
        return target

    def forget_pod(self, volume: PodVolume) -> None:
        """The driver has unpublished the volume. Raises ``OSError`` if something is mounted there still."""
        if volume.block:
            _remove_any(self.block_target(volume.pod_uid, volume.name))
            self._link(volume.pod_uid, volume.name).unlink(missing_ok=True)
            return
        target = self.target(volume.pod_uid, volume.name)
        _remove_any(target)
        (target.parent / _DATA).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.parent.rmdir()

    def note_staged(self, driver: str, handle: str) -> Path:
        staging = self.staging(driver, handle)
        staging.mkdir(mode=0o750, parents=True, exist_ok=True)
        _write(staging.parent / _DATA, {"volumeHandle": handle, "driverName": driver})
        return staging

    def note_block_staged(self, name: str) -> Path:
        staging = self.block_staging(name)
        staging.mkdir(mode=0o750, parents=True, exist_ok=True)
        return staging

    def forget_staged(self, volume: StagedVolume) -> None:
        """The driver has unstaged the volume. Raises ``OSError`` if something is mounted there still."""
        if volume.name:
            _remove_any(self.block_staging(volume.name))
            _remove_any(self._devices / "publish" / volume.name)
            self._block_data(volume.name).unlink(missing_ok=True)
            for folder in (self._devices / volume.name / "data", self._devices / volume.name):
                _remove_any(folder)
            return
        staging = self.staging(volume.driver, volume.handle)
        _remove_any(staging)
        (staging.parent / _DATA).unlink(missing_ok=True)
        _remove_any(staging.parent)

    # What there is.

    def is_noted(self, volume: PodVolume) -> bool:
        if volume.block:
            return self._link(volume.pod_uid, volume.name).is_symlink()
        return (self.target(volume.pod_uid, volume.name).parent / _DATA).exists()

    def volumes_of(self, pod_uid: str) -> Iterator[PodVolume]:
        own = self._pods / pod_uid
        for name in _names(own / "volumes" / PLUGIN):
            if data := _read(own / "volumes" / PLUGIN / name / _DATA):
                ephemeral = data.get(_LIFECYCLE) == _EPHEMERAL
                yield PodVolume(
                    pod_uid, name, data["driverName"], data["volumeHandle"], block=False, ephemeral=ephemeral
                )
        for name in _names(own / "volumeDevices" / PLUGIN):
            if data := _read(self._block_data(name)):
                yield PodVolume(pod_uid, name, data["driverName"], data["volumeHandle"], block=True)

    def all_pods(self) -> Iterator[PodVolume]:
        for uid in _names(self._pods):
            yield from self.volumes_of(uid)

    def is_used(self, staged: StagedVolume) -> bool:
        """Whether a pod has the volume, or is about to have it."""
        return any(
            (volume.driver, volume.handle) == (staged.driver, staged.handle) and volume.block == bool(staged.name)
            for volume in self.all_pods()
        )

    def all_staged(self) -> Iterator[StagedVolume]:
        for driver in _names(self._plugins):
            if driver != self._devices.name:
                for folder in _names(self._plugins / driver):
                    if data := _read(self._plugins / driver / folder / _DATA):
                        yield StagedVolume(data["driverName"], data["volumeHandle"])
        for name in _names(self._devices):
            if data := _read(self._block_data(name)):
                yield StagedVolume(data["driverName"], data["volumeHandle"], name)

    def is_staged(self, staged: StagedVolume) -> bool:
        if staged.name:
            return self._block_data(staged.name).exists()
        return (self.staging(staged.driver, staged.handle).parent / _DATA).exists()


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read(file: Path) -> dict[str, str] | None:
    """None if nothing was noted, or not completely."""
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and data.get("driverName") and data.get("volumeHandle") else None


def _write(file: Path, data: dict[str, str]) -> None:
    file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(json.dumps(data))
    temporary.replace(file)


def _remove_any(path: Path) -> None:
    """An empty folder, or a file. ``OSError`` for a folder that is not empty or has something mounted on it."""
    try:
        path.rmdir()
    except NotADirectoryError:
        path.unlink()
    except FileNotFoundError:
        pass
