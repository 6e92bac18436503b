"""Making a backup of a cluster: the snapshot first, then the files that belong to it, into one archive."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from tiphys.cluster.backup import archive, snapshots
from tiphys.cluster.backup.archive import STORE, About, BackupError
from tiphys.cluster.backup.sources import SavedCluster


def maker(source: Callable[[], SavedCluster], runs: Callable[[], bool]) -> Callable[[Path, datetime], Awaitable[About]]:
    """What makes a backup of the cluster as it is at that time."""
    return lambda target, now: make(source(), target, now, running=runs())


async def make(source: SavedCluster, target: Path, now: datetime, *, running: bool) -> About:
    """Write a backup to ``target``; returns what it says of itself. Raises ``BackupError``."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        store = Path(folder) / STORE
        revision = await snapshots.take(source, store, running=running)
        created = now.isoformat(timespec="seconds")
        about = About(source.kind, source.cluster, source.node, source.address, created, revision)
        return await asyncio.to_thread(_write, about, source, store, target)


def _write(about: About, source: SavedCluster, store: Path, target: Path) -> About:
    store.chmod(0o600)
    try:
        files = {f"files/{name}": _copied(source.root / name, store.parent / "files" / name) for name in source.files}
        return archive.write(target, about, {STORE: store, **files})
    except OSError as error:
        raise BackupError(f"the backup cannot be written: {error}") from error


def _copied(path: Path, copy: Path) -> Path:
    """A copy: components replace their certificates and kubeconfigs when they like."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, copy)
    return copy
