"""The store's part of a backup: a snapshot in etcd's form, from a store that serves, or from one that is stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio

from tiphys.cluster.backup.archive import BackupError
from tiphys.cluster.backup.sources import UP, SavedCluster
from tiphys.runtime.clock import SystemClock
from tiphys.store import snapshot
from tiphys.store.backend import StoreError
from tiphys.store.etcdchannel import Channels, translate
from tiphys.store.etcdctl.snapshot import download
from tiphys.store.sqlite import SQLiteBackend

_SECONDS = 600.0


async def take(source: SavedCluster, target: Path, *, running: bool) -> int:
    """Write a snapshot to ``target``; returns its revision. Raises ``BackupError``."""
    try:
        if running or source.kind != UP:
            await _from_server(source, target)
        else:
            await _from_directory(source.data, target)
        return (await asyncio.to_thread(snapshot.read, target)).revision
    except (StoreError, OSError) as error:
        raise BackupError(f"no snapshot of the store: {error}") from error


async def _from_server(source: SavedCluster, target: Path) -> None:
    channels = Channels([source.endpoint], source.tls, _SECONDS)
    try:
        await download(channels, target)
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    finally:
        await channels.close()


async def _from_directory(directory: Path, target: Path) -> None:
    """Of a cluster that is stopped: the store is opened, and locked, for as long as it takes."""
    store = await SQLiteBackend.open(directory, SystemClock())
    try:
        with store.contents() as contents:
            await asyncio.to_thread(snapshot.write_database, contents, target)
    finally:
        await store.close()
    await asyncio.to_thread(_seal, target)


def _seal(path: Path) -> None:
    """Put the digest to the end, which says that a snapshot is whole."""
    with path.open("r+b") as file:
        digest = snapshot.digest_of(file, path.stat().st_size)
        file.seek(0, 2)
        file.write(digest)
