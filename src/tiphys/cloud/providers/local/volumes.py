"""Disks as files of this machine: a file of the disk's size behind a loop device, so that its size is the limit.

All nodes of the machine share its kernel, so that a loop device is there for each of them; a record beside the file
says which node has it, and no other gets it until that one is detached. Source: loop(4), losetup(8)
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tiphys.api.object import Object
from tiphys.cloud.provider import (
    AttachedElsewhere,
    CloudError,
    CloudSnapshot,
    CloudVolume,
    NoRoom,
    NoSuchDisk,
    OtherDisk,
)
from tiphys.cloud.providers.local.instances import ZONE, name_in
from tiphys.runtime.disks import programs
from tiphys.runtime.disks.files import IMAGE, LocalVolume, NoSuchVolume, Taken, VolumeStore, rounded

T = TypeVar("T")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FileVolumes:
    """Below ``place``. What blocks runs in a thread, one change of a disk at a time."""

    has_zones = False

    def __init__(self, place: Path) -> None:
        self._place = place
        self._opened: VolumeStore | None = None
        self._lock = asyncio.Lock()

    @property
    def _store(self) -> VolumeStore:
        if self._opened is None:
            self._opened = VolumeStore(self._place)
        return self._opened

    async def create(self, name: str, size: int, *, zone: str = "", kind: str = "", source: str = "") -> CloudVolume:
        if zone not in ("", ZONE):
            raise NoRoom(f"this machine has no zone {zone}; there is {ZONE}")
        if kind:
            raise CloudError(f"this machine has one sort of disks, and none called {kind}; name no type")
        return await self._change(self._create, name, rounded(size), source)

    def _create(self, name: str, size: int, source: str) -> CloudVolume:
        store = self._store
        copy_of = None
        if source:
            snapshot = store.get_snapshot(source)
            size, copy_of = max(size, snapshot.size), store.snapshot_content(snapshot)
        if size > store.available() and not any(each.id == name for each in store.all()):
            raise NoRoom(f"this machine has no room for a disk of {size} bytes")
        return _shown(store.create(LocalVolume(name, size, IMAGE, block=True, source=source), copy_of))

    async def get(self, identity: str) -> CloudVolume | None:
        try:
            return _shown(await self._change(self._store.get, identity))
        except NoSuchDisk:
            return None

    async def delete(self, identity: str) -> None:
        try:
            await self._change(self._delete, identity)
        except NoSuchDisk:
            return

    def _delete(self, identity: str) -> None:
        if holder := self._holder(identity):
            raise AttachedElsewhere(f"disk {identity} is attached to {holder}; detach it first")
        self._store.delete(identity)

    async def attach(self, identity: str, node: Object) -> Sequence[str]:
        return await self._change(self._attach, identity, name_in(node))

    def _attach(self, identity: str, name: str) -> Sequence[str]:
        image = self._store.content(self._store.get(identity))
        holder = self._holder(identity)
        if holder not in ("", name):
            raise AttachedElsewhere(f"disk {identity} is attached to {holder}, and to one machine at a time only")
        self._record(identity).parent.mkdir(mode=0o700, exist_ok=True)
        if not holder:
            _write(self._record(identity), {"node": name})  # before the device: who dies here has it
        return (programs.attach_loop(image),)

    async def detach(self, identity: str, node: Object) -> None:
        try:
            await self._change(self._detach, identity, name_in(node))
        except NoSuchDisk:
            return

    def _detach(self, identity: str, name: str) -> None:
        image = self._store.content(self._store.get(identity))
        if self._holder(identity) != name:
            return
        if device := programs.loop_of(image):
            programs.detach_loop(device)  # the kernel does so when its last mount is gone
        self._record(identity).unlink(missing_ok=True)

    async def expand(self, identity: str, size: int) -> CloudVolume:
        return await self._change(self._expand, identity, rounded(size))

    def _expand(self, identity: str, size: int) -> CloudVolume:
        volume = self._store.get(identity)
        if size - volume.capacity > self._store.available():
            raise NoRoom(f"this machine has no room for a disk of {size} bytes")
        grown = self._store.grow(volume, size)
        if device := programs.loop_of(self._store.content(grown)):
            programs.see_new_size(device)
        return _shown(grown)

    async def snapshot(self, name: str, identity: str) -> CloudSnapshot:
        return await self._change(self._snapshot, name, identity)

    def _snapshot(self, name: str, identity: str) -> CloudSnapshot:
        """As of a disk whose power is cut: what its node has not written yet is not in it."""
        volume = self._store.get(identity)
        taken = self._store.take_snapshot(name, volume, time.time(), lambda: None)
        return CloudSnapshot(taken.id, taken.volume, taken.size, taken.created)

    async def get_snapshot(self, identity: str) -> CloudSnapshot | None:
        try:
            taken = await self._change(self._store.get_snapshot, identity)
        except NoSuchDisk:
            return None
        return CloudSnapshot(taken.id, taken.volume, taken.size, taken.created)

    async def delete_snapshot(self, identity: str) -> None:
        try:
            await self._change(self._store.delete_snapshot, identity)
        except NoSuchDisk:
            return

    def _record(self, identity: str) -> Path:
        if not _ID.fullmatch(identity):
            raise NoSuchVolume(f"{identity!r} is not the id of a disk")
        return self._place / "attached" / f"{identity}.json"

    def _holder(self, identity: str) -> str:
        """The node that a disk is attached to; empty for none."""
        try:
            return str(json.loads(self._record(identity).read_bytes())["node"])
        except FileNotFoundError:
            return ""

    async def _change(self, work: Callable[..., T], *arguments: Any) -> T:
        """In a thread, to its end whoever hangs up. Raises ``CloudError``."""
        async with self._lock:
            task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait((task,))
                raise
            except NoSuchVolume as error:
                raise NoSuchDisk(str(error)) from error
            except Taken as error:
                raise OtherDisk(str(error)) from error
            except (programs.ProgramFailure, OSError, ValueError) as error:
                raise CloudError(str(error)) from error


def _shown(volume: LocalVolume) -> CloudVolume:
    return CloudVolume(volume.id, volume.capacity, source=volume.source)


def _write(path: Path, about: dict[str, str]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(about))
    temporary.replace(path)
