"""Keeps containers' logs small: a log that is too large is set aside, older ones are compressed, the oldest removed.

The runtime writes on into the renamed file until it is asked to reopen the log, so no line is lost. Source:
https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tiphys.kubelet.container.logs import log_folder_of
from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, RuntimeService
from tiphys.runtime.clock import Clock
from tiphys.runtime.system.folders import Folder

log = logging.getLogger(__name__)

PERIOD = 10.0
_COMPRESSED = ".gz"
_TEMPORARY = ".tmp"


def to_remove(rotated: Sequence[str], keep: int) -> list[str]:
    """Which of the rotated logs to remove, so that ``keep`` stay. Their names end in the time, so they sort by age."""
    ordered = sorted(rotated)
    return ordered[: max(0, len(ordered) - keep)]


class LogRotation:
    """``max_size`` in bytes; ``max_files`` counts the log that is being written."""

    def __init__(self, runtime: RuntimeService, clock: Clock, max_size: int, max_files: int) -> None:
        self._runtime = runtime
        self._clock = clock
        self._max_size = max_size
        self._max_files = max_files

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            try:
                await self.rotate_all()
            except RuntimeFailure as error:
                log.warning("cannot rotate logs: %s", error)

    async def rotate_all(self) -> None:
        """One round over the running containers. Raises ``RuntimeFailure``."""
        for container in await self._runtime.list_containers():
            if container.state is not ContainerState.RUNNING:
                continue
            path = (await self._runtime.container_status(container.id)).log_path
            if path and _size(path) > self._max_size:
                await self._rotate(container.id, Path(path))

    async def _rotate(self, container_id: str, path: Path) -> None:
        try:
            with log_folder_of(path) as folder:
                await asyncio.to_thread(clean, folder, path.name, self._max_files)
                aside = f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(self._clock.now()))}"
                folder.rename(path.name, aside)
                try:
                    await self._runtime.reopen_container_log(container_id)
                except RuntimeFailure:
                    folder.rename(aside, path.name)
                    raise
        except OSError as error:
            log.warning("cannot rotate %s: %s", path, error.strerror)


def clean(folder: Folder, name: str, max_files: int) -> None:
    """Remove the oldest, and compress all but the newest: the runtime may still be writing to that one."""
    rotated = sorted(entry for entry in folder.names() if entry.startswith(f"{name}."))
    for entry in rotated:
        if entry.endswith(_TEMPORARY):  # a compression that was cut short
            folder.unlink(entry)
    rotated = [entry for entry in rotated if not entry.endswith(_TEMPORARY)]
    doomed = set(to_remove(rotated, max_files - 2))
    for entry in doomed:
        folder.unlink(entry)
    for entry in [entry for entry in rotated if entry not in doomed][:-1]:
        if not entry.endswith(_COMPRESSED):
            _compress(folder, entry)


def _size(path: str) -> int:
    try:
        with log_folder_of(Path(path)) as folder:
            return folder.stat(Path(path).name).st_size
    except OSError:
        return 0


def _compress(folder: Folder, name: str) -> None:
    with (
        os.fdopen(folder.open_regular(name), "rb") as source,
        os.fdopen(folder.make_file(f"{name}{_COMPRESSED}{_TEMPORARY}", 0o640), "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb") as target,
    ):
        shutil.copyfileobj(source, target)
    folder.rename(f"{name}{_COMPRESSED}{_TEMPORARY}", f"{name}{_COMPRESSED}")
    folder.unlink(name)
