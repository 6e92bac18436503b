"""The places of volumes on a node: what is mounted and bound there, and how full it is.

Folders are reached through descriptors, as the last of a path's parts is made by whoever calls the driver.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#node-service-rpc
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiphys.csi.answers import answer
from tiphys.runtime.system import mounts
from tiphys.runtime.system.folders import O_PATH, Folder
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError


def mount_at(target: Path, mount: Callable[[], None]) -> None:
    """Make the place of a mount and call ``mount``, unless something is mounted there."""
    with Folder.at(target.parent) as parent:
        if mounts.is_mounted(parent, target.name):
            return
        make_target(parent, target.name, is_folder=True)
        mount()


def bind_at(content: Path, target: Path, *, is_folder: bool, read_only: bool) -> None:
    """Let a folder, or a device, be at ``target`` as well, unless something is mounted there."""
    with Folder.at(target.parent) as parent:
        if mounts.is_mounted(parent, target.name):
            return
        make_target(parent, target.name, is_folder=is_folder)
        source = os.open(content, O_PATH)
        try:
            mounts.bind(source, parent, target.name)
        finally:
            os.close(source)
        if read_only and is_folder:
            mounts.make_read_only(parent, target.name)


async def folder_stats(path: str) -> Any:
    """NodeGetVolumeStatsResponse of a mounted volume. Raises ``GrpcError`` NOT_FOUND if its path is gone."""
    try:
        info = await asyncio.to_thread(os.statvfs, path)
    except FileNotFoundError as error:
        raise GrpcError(StatusCode.NOT_FOUND, f"{path} does not exist") from error
    total, free = info.f_blocks * info.f_frsize, info.f_bfree * info.f_frsize
    usage = [
        {"unit": "BYTES", "total": total, "used": total - free, "available": info.f_bavail * info.f_frsize},
        {"unit": "INODES", "total": info.f_files, "used": info.f_files - info.f_ffree, "available": info.f_ffree},
    ]
    return answer("NodeGetVolumeStatsResponse", usage=usage)


def is_mounted(path: Path) -> bool:
    with Folder.at(path.parent) as parent:
        return mounts.is_mounted(parent, path.name)


def unmount_all(path: Path) -> None:
    with Folder.at(path.parent) as parent:
        while mounts.is_mounted(parent, path.name):
            mounts.unmount(parent, path.name, lazily=False)


def make_target(parent: Folder, name: str, *, is_folder: bool) -> None:
    """The place for a mount, if it is not there: the caller of the driver has made only the folder around it."""
    try:
        if is_folder:
            os.mkdir(name, 0o750, dir_fd=parent.descriptor)
        else:
            os.close(parent.make_file(name, 0o640))
    except FileExistsError:
        pass


def remove_target(target: Path) -> None:
    """Unmount, and remove the place. What is gone already is no error."""
    if not target.parent.is_dir():
        return
    unmount_all(target)
    try:
        if target.is_dir():
            target.rmdir()
        else:
            target.unlink()
    except FileNotFoundError:
        pass
