"""A stopped cluster's files there and back again, without a cluster that runs."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tiphys.cli import restore as restore_command
from tiphys.cluster.backup import retention
from tiphys.cluster.backup.archive import STORE, BackupError
from tiphys.cluster.backup.making import make
from tiphys.cluster.backup.places import place_of
from tiphys.cluster.backup.restoring import Destination, restore
from tiphys.cluster.backup.sources import of_up
from tiphys.cluster.pki import ensure_pki
from tiphys.cluster.settings import Settings
from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Put, Range
from tiphys.store.sqlite import SQLiteBackend


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    settings = Settings(data_dir=tmp_path / "old", run_dir=tmp_path / "old/run", node_name="n1", node_ip="192.0.2.1")
    settings.save()
    ensure_pki(settings)

    async def fill() -> None:
        store = await SQLiteBackend.open(settings.store, SystemClock())
        await store.put(Put(b"/registry/x", b"argo"))
        await store.close()
        await make(of_up(settings), tmp_path / "b.tar.gz", datetime.now(UTC), running=False)

    asyncio.run(fill())
    return tmp_path / "b.tar.gz"


def value(settings: Settings) -> bytes:
    async def read() -> bytes:
        store = await SQLiteBackend.open(settings.store, SystemClock())
        try:
            (kv,) = (await store.range(Range(b"/registry/x"))).kvs
            return bytes(kv.value)
        finally:
            await store.close()

    return asyncio.run(read())


@pytest.mark.parametrize("folder_exists", [False, True])
def test_store_authorities_and_settings_are_as_they_were(backup: Path, tmp_path: Path, *, folder_exists: bool) -> None:
    data = tmp_path / "new"
    if folder_exists:
        (data / "lost+found").mkdir(parents=True)  # a disk of its own
    restore(backup, Destination(data, tmp_path / "run", "192.0.2.9"))
    settings = Settings.load(data)
    assert settings is not None
    assert (settings.data_dir, settings.run_dir, settings.node_name) == (data, tmp_path / "run", "n1")
    assert value(settings) == b"argo"
    for name in ("pki/ca.key", "pki/sa.key", "pki/etcd/ca.crt"):
        assert (data / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
    assert (data / "pki/ca.key").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o077 == 0 or folder_exists
    assert list(tmp_path.glob(".tiphys-restore-*")) == []


def test_a_store_that_cannot_be_used_leaves_nothing(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiphys.cluster.backup.restoring.STORE", "files/cluster.json")
    assert STORE == "store.db"
    with pytest.raises(BackupError, match="the store's snapshot cannot be used"):
        restore(backup, Destination(tmp_path / "new", tmp_path / "run", "192.0.2.9"))
    assert not (tmp_path / "new").exists()


def test_nothing_is_restored_over_a_cluster(backup: Path, tmp_path: Path) -> None:
    before = (tmp_path / "old/pki/ca.key").read_bytes()
    with pytest.raises(BackupError, match=r"old holds a cluster already; `tiphys reset` removes it"):
        restore(backup, Destination(tmp_path / "old", tmp_path / "run", "192.0.2.9"))
    assert (tmp_path / "old/pki/ca.key").read_bytes() == before


def restored(tmp_path: Path, *words: str) -> str:
    """The value that a restored cluster has, by the command."""
    data = tmp_path / "restored"
    assert restore_command.main(["--data-dir", str(data), "--node-ip", "192.0.2.9", "-q", *words]) == 0
    settings = Settings.load(data)
    assert settings is not None
    try:
        return value(settings).decode()
    finally:
        shutil.rmtree(data)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_of_a_place_the_newest_backup_is_restored_or_the_one_that_is_named(
    backup: Path, tmp_path: Path, s3: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path / "place") if kind == "folder" else "s3://backups/restoring"
    place = place_of(where)
    older, newest = (retention.name_of("tiphys", datetime(2026, 6, day, tzinfo=UTC)) for day in (1, 2))
    broken = tmp_path / "broken"
    broken.write_bytes(b"no backup")
    place.names()
    place.put(broken, older)
    place.put(backup, newest)
    assert restored(tmp_path, where) == "argo"
    assert restored(tmp_path, f"{where}/{newest}") == "argo"
    assert "Start it with `tiphys up --data-dir" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is no backup, or is damaged"):
        restored(tmp_path, f"{where}/{older}")
    place.put(backup, retention.name_of("other", datetime(2026, 6, 3, tzinfo=UTC)))
    with pytest.raises(SystemExit, match="has backups of other, tiphys; choose one with --cluster"):
        restored(tmp_path, where)
    assert restored(tmp_path, where, "--cluster", "tiphys") == "argo"
    with pytest.raises(SystemExit, match="has no backup of nobody"):
        restored(tmp_path, where, "--cluster", "nobody")
