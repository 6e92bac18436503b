"""Backups again and again into one place, of which the newest are kept."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from tiphys.cluster.backup import retention
from tiphys.cluster.backup.archive import BackupError
from tiphys.cluster.backup.places import Place
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

Make = Callable[[Path, datetime], Awaitable[object]]
"""Writes a backup to a file."""

RETRY_SECONDS = 60.0


async def once(make: Make, place: Place, cluster: str, keep: int, now: datetime) -> str:
    """Make a backup, put it into the place, and only then remove those that are old; returns its name."""
    name = retention.name_of(cluster, now)
    with tempfile.TemporaryDirectory(prefix="tiphys-backup-") as folder:
        file = Path(folder) / name
        await make(file, now)
        await asyncio.to_thread(place.put, file, name)
    for old in retention.expired(await asyncio.to_thread(place.names), cluster, keep):
        await asyncio.to_thread(place.remove, old)
    return name


async def keep_making(make: Make, place: Place, cluster: str, *, every: float, keep: int, clock: Clock) -> None:
    """Make a backup ``every`` so many seconds after the newest that is there, over restarts too, until cancelled."""
    while True:
        try:
            wait = due_in(await asyncio.to_thread(place.names), cluster, every, utc(clock))
            if wait <= 0:
                log.info("made the backup %s", await once(make, place, cluster, keep, utc(clock)))
                wait = every
        except BackupError as error:
            wait = min(every, RETRY_SECONDS)
            log.error("no backup; trying again in %.0f s: %s", wait, error)
        await clock.sleep(wait)


def due_in(names: list[str], cluster: str, every: float, now: datetime) -> float:
    """Seconds until the next backup; 0 and less if one is due. One that is dated later than now does not count."""
    times = [time for name in names if (time := retention.time_of(name, cluster)) is not None and time <= now]
    return every - (now - max(times)).total_seconds() if times else 0.0


def utc(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
