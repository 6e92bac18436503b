"""Damage of every kind in a store's files: it is found, refused with the way out, and can be accepted."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.etcds import embedded
from tiphys.runtime.clock import SystemClock
from tiphys.store import losses, newest, walfile
from tiphys.store.backend import Compacted, Delete, KeyValue, Put, Range, Unavailable
from tiphys.store.seals import broken, sealed
from tiphys.store.sqlfile import CannotOpen
from tiphys.store.sqlite import SQLiteBackend, Writes

KEYS = 60
_WRITER = """
import asyncio, os, sys
from tiphys.runtime.clock import SystemClock
from tiphys.store.backend import Put
from tiphys.store.sqlite import SQLiteBackend

async def main():
    store = await SQLiteBackend.open(sys.argv[1], SystemClock())
    for number in range(int(sys.argv[2])):
        await store.put(Put(b"/k/%04d" % number, b"%0200d" % number))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a store that was killed after ``KEYS`` acknowledged writes, all of them in its log."""
    directory = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", _WRITER, str(directory), str(KEYS)], check=False)
    assert (directory / "tiphys.db-wal").stat().st_size > KEYS * 4096
    return directory


@pytest.fixture
def store(killed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(killed, tmp_path / "store")


def count(directory: Path, *, accept_loss: bool = False) -> int:
    async def main() -> int:
        opened = await SQLiteBackend.open(directory, SystemClock(), accept_loss=accept_loss)
        try:
            return (await opened.range(Range(b"/k/", b"/k0", count_only=True))).count
        finally:
            await opened.close()

    return asyncio.run(main())


def flip(path: Path, place: int, pattern: int = 0x40) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (old,) = file.read(1)
        file.seek(place)
        file.write(bytes([old ^ pattern]))


def used(log: Path) -> int:
    """Where the frames of a log end; room that was made in advance follows."""
    return 32 + len(walfile.frames(log)) * (4096 + 24)


def test_after_a_kill_all_is_there(store: Path) -> None:
    assert count(store) == KEYS
    assert count(store) == KEYS


def test_any_damaged_byte_of_the_log_is_found(store: Path, tmp_path: Path) -> None:
    log = store / "tiphys.db-wal"
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chosen = random.Random(seed)
    places = [chosen.randrange(used(log)) for _ in range(40)]
    for place in [*range(0, 32, 4), *range(32, 56, 4), *places, used(log) - 1]:
        copy = shutil.copytree(store, tmp_path / f"copy{place}", dirs_exist_ok=True)
        flip(copy / log.name, place)
        with pytest.raises(CannotOpen, match=r"damaged.*snapshot restore.*--accept-data-loss"):
            count(copy)
        shutil.rmtree(copy)


def test_the_log_alone_tells_that_commits_were_lost(store: Path) -> None:
    """As after a power cut that took the newest revision's file along, or left an old one."""
    log = store / "tiphys.db-wal"
    (store / newest.FILE_NAME).unlink()
    flip(log, used(log) // 2)
    with pytest.raises(CannotOpen, match="holds commits that cannot be read"):
        count(store)


def test_a_last_transaction_cut_by_a_power_cut_is_no_damage(store: Path) -> None:
    """It was not acknowledged, and a revision file that is behind says no more than it knows."""
    log = store / "tiphys.db-wal"
    frames = walfile.frames(log)
    last = len(frames) - 1 - frames[-2::-1].index(walfile.Frame.COMMIT)
    with log.open("r+b") as file:
        file.seek(32 + last * (4096 + 24) + 100)
        file.write(bytes(4000))
    newest.NewestRevision(store, KEYS // 2).close()
    assert count(store) == KEYS - 1


@pytest.mark.parametrize("name", ["tiphys.db", "tiphys.db-wal", "revision"])
@pytest.mark.parametrize("how", ["deleted", "emptied", "zeros"])
def test_a_file_that_is_missing_or_empty(store: Path, name: str, how: str) -> None:
    path = store / name
    if how == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
        if how == "emptied":
            path.touch()
    if (name, how) in (("revision", "deleted"), ("tiphys.db", "zeros")):  # the log has all of it
        assert count(store) == KEYS
        assert newest.read(store) == KEYS + 1
        return
    with pytest.raises(CannotOpen, match=r"damaged.*snapshot restore"):
        count(store)
    with pytest.raises(CannotOpen):
        count(store)


def test_nothing_is_left_but_the_revision(store: Path) -> None:
    for name in ("tiphys.db", "tiphys.db-wal", "tiphys.db-shm"):
        (store / name).unlink()
    with pytest.raises(CannotOpen, match="missing or empty"):
        count(store)


def test_an_older_database_is_found(store: Path, tmp_path: Path) -> None:
    count(store)
    older = shutil.copy(store / "tiphys.db", tmp_path / "older.db")

    async def more() -> None:
        async with embedded(store) as opened:
            await opened.put(Put(b"/k/more"))

    asyncio.run(more())
    shutil.copy(older, store / "tiphys.db")
    with pytest.raises(CannotOpen, match=rf"newest revision was {KEYS + 2}, and the database ends at {KEYS + 1}"):
        count(store)


def test_what_is_accepted_goes_on_with_newer_revisions(store: Path) -> None:
    log = store / "tiphys.db-wal"
    flip(log, used(log) // 2)

    async def accept() -> None:
        opened = await SQLiteBackend.open(store, SystemClock(), accept_loss=True)
        left = await opened.range(Range(b"/k/", b"/k0"))
        assert 0 < left.count < KEYS
        assert [kv.value for kv in left.kvs] == [b"%0200d" % number for number in range(left.count)]
        assert left.revision == KEYS + 1
        with pytest.raises(Compacted):
            await opened.range(Range(b"/k/", b"/k0", KEYS))
        assert (await opened.put(Put(b"/k/new"))).revision == KEYS + 2
        await opened.close()

    asyncio.run(accept())
    assert count(store) > 1  # opens by itself again


@pytest.mark.parametrize("damage", ["gone", "emptied"])
def test_a_database_that_is_gone_can_be_accepted(store: Path, damage: str) -> None:
    (store / "tiphys.db").unlink()
    if damage == "emptied":
        (store / "tiphys.db").touch()
    assert count(store, accept_loss=True) == 0
    assert (store / "tiphys.db-wal.lost").exists()

    async def write() -> None:
        async with embedded(store) as opened:
            assert (await opened.put(Put(b"/k/new"))).revision == KEYS + 2

    asyncio.run(write())


def change(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / "tiphys.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE kv SET value = CAST('x' AS BLOB) WHERE row >> 24 = 20", "revision 20 of the key b'/k/0018' does not"),
        ("UPDATE kv SET create_revision = 3 WHERE row >> 24 = 20", "revision 20 of"),
        ("DELETE FROM kv WHERE row >> 24 = 30", "what was written before revision 31 is missing"),
    ],
)
def test_damaged_and_missing_rows(store: Path, statement: str, message: str) -> None:
    count(store)
    change(store, statement)
    with pytest.raises(CannotOpen, match=message):
        count(store)
    count(store, accept_loss=True)
    count(store)


def test_a_damaged_byte_of_the_database_is_found(store: Path) -> None:
    count(store)  # carries the log over into the file
    data = (store / "tiphys.db").read_bytes()
    flip(store / "tiphys.db", data.index(b"%0200d" % 33) + 7)
    with pytest.raises(CannotOpen, match="does not hold what was written"):
        count(store)


def test_the_rows_of_a_large_store_are_looked_at_while_it_is_served(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(store)
    change(store, "UPDATE kv SET value = CAST('x' AS BLOB) WHERE row >> 24 = 50")
    monkeypatch.setattr(losses, "ROWS_AT_OPEN", 20)
    monkeypatch.setattr("tiphys.store.sqlite.CHECK_ROWS", 7)
    monkeypatch.setattr("tiphys.store.sqlite.CHECK_PAUSE", 0)
    monkeypatch.setattr("tiphys.store.sqlite.CHECK_AFTER", 0)

    async def main() -> None:
        async with embedded(store) as opened:
            while opened._writes is not Writes.STOPPED:
                await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="revision 50 of the key"):
                await opened.healthy()
            with pytest.raises(Unavailable, match="revision 50 of the key"):
                await opened.put(Put(b"/k/1"))
            assert (await opened.range(Range(b"/k/", b"/k0", count_only=True))).count == KEYS

    asyncio.run(main())


def test_compaction_and_failed_writes_leave_the_chain_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as opened:
            for turn in range(3):
                await asyncio.gather(*(opened.put(Put(b"/k/%d" % (n % 7), b"%d" % turn)) for n in range(50)))
                await opened.delete(Delete(b"/k/1"))
                await opened.compact(await opened.current_revision() - 10, physical=True)
            await opened.check_file()

    asyncio.run(main())
    assert count(tmp_path) == 6


def test_a_store_without_seals_is_taken_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path) as opened:
            await opened.put(Put(b"/k/1"))

    asyncio.run(main())
    change(tmp_path, "ALTER TABLE kv DROP COLUMN seal")
    change(tmp_path, "PRAGMA user_version = 1")
    (tmp_path / newest.FILE_NAME).unlink()
    assert count(tmp_path) == 1
    asyncio.run(main())
    assert count(tmp_path) == 1


def test_the_lock_survives_the_deletion_of_its_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with embedded(tmp_path):
            (tmp_path / "lock").unlink()
            with pytest.raises(CannotOpen, match="in use by process"):
                await SQLiteBackend.open(tmp_path, SystemClock())

    asyncio.run(main())


def test_seals() -> None:
    rows = sealed(((number << 24, KeyValue(b"k", b"v", 2, number, number)) for number in range(2, 12)), 0)
    assert list(broken(rows, 1)) == []
    assert [number >> 24 for number, _ in broken(rows[:4] + rows[5:], 1)] == [7]
    assert list(broken(rows[:4] + rows[5:], 6)) == []
    assert [number >> 24 for number, _ in broken([*rows[:3], rows[4], rows[3], *rows[5:]], 1)] == [6, 5, 7]


def test_the_file_of_the_revision(tmp_path: Path) -> None:
    assert newest.read(tmp_path) is None
    file = newest.NewestRevision(tmp_path, 7)
    file.write(1 << 40)
    assert newest.read(tmp_path) == 1 << 40
    file.close()
    os.truncate(tmp_path / newest.FILE_NAME, 11)
    with pytest.raises(newest.BadRevisionFile):
        newest.read(tmp_path)
