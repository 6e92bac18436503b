"""Keeps containers' logs small: a log that has grown too large is set aside, older ones are compressed, the oldest go.

The runtime writes on into the renamed file until it is told to open the log anew, so no line is lost. Source:
https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tiphys.kubelet.runtime.service import ContainerState, RuntimeFailure, RuntimeService
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PERIOD = 10.0
_COMPRESSED = ".gz"
_TEMPORARY = ".tmp"


def to_remove(rotated: Sequence[str], keep: int) -> list[str]:
    """Which of the rotated logs go, so that ``keep`` stay. Their names end in the time, so they sort by age."""
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
            await asyncio.to_thread(self._clean, path)
            aside = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(self._clock.now()))}")
            _move(path, aside)
            try:
                await self._runtime.reopen_container_log(container_id)
            except RuntimeFailure:
                _move(aside, path)
                raise
        except OSError as error:
            log.warning("cannot rotate %s: %s", path, error.strerror)

    def _clean(self, path: Path) -> None:
        """Remove the oldest, and compress all but the newest: the runtime may still be writing to that one."""
        rotated = [entry for entry in path.parent.glob(f"{path.name}.*") if not entry.name.endswith(_TEMPORARY)]
        doomed = set(to_remove([entry.name for entry in rotated], self._max_files - 2))
        left = sorted(entry for entry in rotated if entry.name not in doomed)
        for entry in rotated:
            if entry.name in doomed:
                entry.unlink(missing_ok=True)
        for entry in left[:-1]:
            if not entry.name.endswith(_COMPRESSED):
                _compress(entry)


def _move(path: Path, target: Path) -> None:
    path.rename(target)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _compress(path: Path) -> None:
    temporary = path.with_name(f"{path.name}{_COMPRESSED}{_TEMPORARY}")
    with path.open("rb") as source, gzip.open(temporary, "wb") as target:
        shutil.copyfileobj(source, target)
    temporary.rename(path.with_name(f"{path.name}{_COMPRESSED}"))
    path.unlink()
