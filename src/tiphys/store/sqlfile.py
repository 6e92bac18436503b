"""The store's file: a data directory with one SQLite database, and the tables in it.

    kv     one row for each change: the row number (``mvcc.index``), the key, what it held (deletions have version 0),
           and its seal (``seals``)
    lease  the granted leases
    meta   the compacted revision, and the ids of the store

``application_id`` marks the file as ours, ``user_version`` is the format. A data directory has one process at a time.

Source: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from tiphys.store.backend import KeyValue, StoreError
from tiphys.store.contents import Contents
from tiphys.store.mvcc import RowChange, revision_of
from tiphys.store.seals import UNSEALED, SealedRow, broken, sealed

log = logging.getLogger(__name__)

APPLICATION_ID = 0x54695068
FORMAT = 2
"""1: without seals."""
FILE_NAME = "tiphys.db"

_SCHEMA = """
CREATE TABLE kv (
    row INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB NOT NULL,
    seal INTEGER NOT NULL
) STRICT;
CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_ADD_SEALS = f"ALTER TABLE kv ADD COLUMN seal INTEGER NOT NULL DEFAULT {UNSEALED}"
_INSERT = "INSERT INTO kv (row, key, create_revision, version, lease, value, seal) VALUES (?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT key, value, create_revision, row >> 24, version, lease FROM kv WHERE row = ?"

_SELECT_ALL = "SELECT row, key, value, create_revision, row >> 24, version, lease FROM kv ORDER BY row"

_SELECT_SEALED = (
    "SELECT row, key, create_revision, version, lease, value, seal FROM kv WHERE row >= ? ORDER BY row LIMIT ?"
)

_MANY = "FROM json_each(?) AS wanted CROSS JOIN kv ON row = wanted.value"
"""Rows in the order requested: SQLite takes the left side of a CROSS JOIN for its outer loop."""
_SELECT_MANY = f"SELECT kv.key, kv.value, create_revision, row >> 24, version, lease {_MANY}"
_SELECT_VALUES = f"SELECT kv.value {_MANY}"


class CannotOpen(StoreError):
    """The data directory cannot be used; the message says why and what to do."""


class DataDirectory:
    """A data directory, locked for this process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.file = self.path / FILE_NAME
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.file.exists() and (self.path / "member").exists():
            raise CannotOpen(
                f"{self.path} holds the data of an etcd member, which Tiphys does not read: save a snapshot of it with "
                "`etcdctl snapshot save`, and restore it into another directory with `tiphys etcdctl snapshot restore`"
            )
        self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take()
        except BaseException:
            self.release()
            raise

    def _take(self) -> None:
        """Lock the directory itself, as a file in it can be deleted by mistake, and the file, which names the owner."""
        try:
            _lock(self._directory)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            raise CannotOpen(
                f"the data directory {self.path} is in use by process {owner}: "
                "stop that process, or choose another directory"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def room(self) -> int:
        """Bytes that can still be written to the file system."""
        about = os.statvfs(self.path)
        return about.f_bavail * about.f_frsize

    def release(self) -> None:
        os.close(self._lock)
        os.close(self._directory)


def _lock(directory: int) -> None:
    """Raises ``BlockingIOError`` when another process has it. File systems over a network lock no directories."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        log.info("the data directory is locked by the file in it alone: %s", error)


class StoreFile:
    """The database. ``writer`` is the one connection that writes; ``reader`` sees what has been committed."""

    def __init__(self, directory: DataDirectory) -> None:
        self.path = directory.file
        self.checked_to = 0
        """The last row that was held against its seal when the store was opened; 0: all were."""
        try:
            self.writer = self._connect()
            self._prepare(self.writer)
            self.reader = self._connect()
            self.reader.execute("PRAGMA query_only = 1")
            self.meta: dict[str, int] = dict(self.writer.execute("SELECT name, value FROM meta"))
            self._committed = self._seal = self._newest_seal()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _connect(self) -> sqlite3.Connection:
        created = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(created)
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, cached_statements=64)
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA cache_size = -4000")
        return connection

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Set the file up, creating its tables if it is new. Raises ``CannotOpen``."""
        mark = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if tables and mark != APPLICATION_ID:
            raise CannotOpen(f"{self.path} is a SQLite database of another program: choose another data directory")
        if version > FORMAT:
            raise CannotOpen(
                f"{self.path} has format {version}, written by a newer Tiphys; this one knows formats up to {FORMAT}: "
                "start the newer version, or restore a snapshot into another data directory"
            )
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "PRAGMA wal_autocheckpoint = 0"
        )  # no commit has to wait for it: ``checkpoint`` is for others to call
        db.execute("PRAGMA journal_size_limit = 67108864")
        if not tables:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {FORMAT}")
            ids = [(name, secrets.randbits(63)) for name in ("cluster_id", "member_id")]
            db.executemany("INSERT INTO meta VALUES (?, ?)", ids)
            db.execute("COMMIT")
            _sync_directory(self.path.parent)

        elif version < FORMAT:
            self._keep(db, version)
            db.execute("BEGIN IMMEDIATE")
            db.execute(_ADD_SEALS)
            db.execute(f"PRAGMA user_version = {FORMAT}")
            db.execute("COMMIT")

    def _keep(self, db: sqlite3.Connection, version: int) -> None:
        """Copy the file as an older version has written it, for whoever wants to go back there."""
        copy = self.path.with_name(f"{self.path.name}.format-{version}")
        if copy.exists():
            return
        making = copy.with_name(f"{copy.name}.part")
        making.unlink(missing_ok=True)
        os.close(os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        db.execute("VACUUM INTO ?", (str(making),))
        with making.open("rb") as file:
            os.fsync(file.fileno())
        making.replace(copy)
        _sync_directory(copy.parent)

    def _newest_seal(self) -> int:
        newest = self.writer.execute("SELECT seal FROM kv ORDER BY row DESC LIMIT 1").fetchone()
        return 0 if newest is None else max(0, newest[0])

    def revision(self) -> int:
        """The newest revision that is in the database."""
        (newest,) = self.reader.execute("SELECT coalesce(max(row), 0) FROM kv").fetchone()
        return max(1, revision_of(newest), self.meta.get("compacted", 0))

    def _damaged(self, error: Exception | str) -> CannotOpen:
        return CannotOpen(
            f"the store's file {self.path} is damaged or cannot be read ({error}): restore the last snapshot with "
            "`tiphys etcdctl snapshot restore`, or move the data directory away to begin with an empty store"
        )

    def check(self) -> None:
        """Check the structure of the whole file, on its own connection."""
        connection = self._connect()
        try:
            problems = [line for (line,) in connection.execute("PRAGMA quick_check(5)")]
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        finally:
            connection.close()
        if problems != ["ok"]:
            raise self._damaged("; ".join(problems))

    def check_rows(self, first: int = 0, limit: int = -1) -> tuple[int, list[tuple[int, str]]]:
        """Hold up to ``limit`` rows from row number ``first`` on against their seals, on its own connection.

        Returns the last row looked at (0: there are no more than the first), and what is wrong: row and sentence.
        """
        last = 0

        def rows() -> Iterator[SealedRow]:
            nonlocal last
            for row in connection.execute(_SELECT_SEALED, (first, limit)):
                last = row[0]
                yield row

        with closing(self._connect()) as connection:
            try:
                connection.execute("BEGIN")
                meta = dict(connection.execute("SELECT name, value FROM meta"))
                wrong = list(broken(rows(), meta.get("compacted", 0)))
            except sqlite3.Error as error:
                raise self._damaged(error) from error
        return last if last > first else 0, wrong

    def accept(self, unsealed: Iterable[int], revision: int) -> None:
        """Go on with what is left: rows that hold something else than was written, and no history of before.

        No revision is given twice, and who watches from a revision that is lost is sent to read everything again, as
        the past up to ``revision`` counts as compacted.
        """
        self.writer.execute("BEGIN IMMEDIATE")
        self.writer.executemany(f"UPDATE kv SET seal = {UNSEALED} WHERE row = ?", ((row,) for row in unsealed))
        self.set_meta("compacted", revision)
        self.writer.execute("COMMIT")
        self.meta["compacted"] = revision

    def index(self) -> Iterator[tuple[int, bytes, int, int, int]]:
        """Every row without its value, oldest first."""
        try:
            yield from self.writer.execute("SELECT row, key, create_revision, version, lease FROM kv ORDER BY row")
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def leases(self) -> list[tuple[int, int]]:
        try:
            return self.writer.execute("SELECT id, ttl FROM lease ORDER BY id").fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    @contextmanager
    def contents(self) -> Iterator[Contents]:
        """What is committed now. The connection is of its own, so any thread may use it, for as long as it likes."""
        connection = self._connect()
        try:
            connection.execute("BEGIN")
            (compacted,) = connection.execute(
                "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'compacted'"
            ).fetchone()
            (newest,) = connection.execute("SELECT coalesce(max(row), 0) FROM kv").fetchone()
            leases = connection.execute("SELECT id, ttl FROM lease ORDER BY id").fetchall()

            def rows() -> Iterator[tuple[int, KeyValue]]:
                for row, *kv in connection.execute(_SELECT_ALL):
                    yield row, KeyValue._make(kv)

            yield Contents(max(1, revision_of(newest), compacted), compacted, leases, rows)
        finally:
            connection.close()

    # Writing: within one transaction

    def insert(self, changes: Sequence[RowChange]) -> None:
        self.insert_rows((change.row, change.kv) for change in changes)

    def insert_alone(self, change: RowChange) -> None:
        """One change as its own transaction: one statement instead of three."""
        (row,) = sealed(((change.row, change.kv),), self._committed)
        self.writer.execute(_INSERT, row)
        self._committed = self._seal = row[-1]

    def insert_rows(self, rows: Iterable[tuple[int, KeyValue]]) -> None:
        with_seals = sealed(rows, self._seal)
        self.writer.executemany(_INSERT, with_seals)
        if with_seals:
            self._seal = with_seals[-1][-1]

    def delete_rows(self, rows: Iterable[int]) -> None:
        self.writer.executemany("DELETE FROM kv WHERE row = ?", ((row,) for row in rows))

    def add_lease(self, id: int, ttl: int) -> None:
        self.writer.execute("INSERT INTO lease VALUES (?, ?)", (id, ttl))

    def remove_lease(self, id: int) -> None:
        self.writer.execute("DELETE FROM lease WHERE id = ?", (id,))

    def set_meta(self, name: str, value: int) -> None:
        self.writer.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (name, value)
        )

    def commit(self) -> None:
        self.writer.execute("COMMIT")
        self._committed = self._seal

    def roll_back(self) -> None:
        """Forget a transaction that was begun, if one was."""
        if self.writer.in_transaction:
            self.writer.execute("ROLLBACK")
        self._seal = self._committed

    def checkpoint(self) -> None:
        """Carry the log over into the file: all of it, as nobody writes meanwhile."""
        self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def checkpoint_beside(self) -> None:
        """Carry over what the log holds now, in any thread, while others read and write."""
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def lengthen_log(self, size: int, step: int) -> bool:
        """Write ``step`` more zeros behind the log, up to ``size`` bytes; whether there is more to do.

        A commit into a file that grows waits for the file's length as well as for its bytes. SQLite passes over zeros
        behind the last commit, as they carry no checksum. Nobody may write meanwhile. Raises OSError.
        """
        log = os.open(f"{self.path}-wal", os.O_WRONLY | os.O_CLOEXEC)
        try:
            end = os.fstat(log).st_size
            if end < size:
                os.pwrite(log, bytes(min(step, size - end)), end)
                os.fdatasync(log)
            return end + step < size
        finally:
            os.close(log)

    # Room

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database, and how many of them are in use."""
        page, count, free = (
            self.reader.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return page * count, page * (count - free)

    def give_back(self, pages: int) -> int:
        """Return up to ``pages`` free pages to the file system; returns how many are left."""
        self.writer.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return int(self.writer.execute("PRAGMA freelist_count").fetchone()[0])

    def rewrite(self) -> None:
        """Rewrite the whole file, without holes."""
        self.writer.execute("VACUUM")
        self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self.reader.close()
        self.writer.close()


_key_value = partial(tuple.__new__, KeyValue)
"""``KeyValue._make`` without a call of Python, which takes a tenth of the time of reading many rows."""


class SQLiteRows:
    """The rows of a ``StoreFile``. Those that are not committed yet are in ``pending``."""

    def __init__(self, file: StoreFile) -> None:
        self.pending: dict[int, KeyValue] = {}
        self.add = self.pending.__setitem__
        self._execute = file.reader.cursor().execute

    def drop(self, rows: Iterable[int]) -> None:
        for row in rows:
            self.pending.pop(row, None)

    def read(self, rows: Sequence[int]) -> list[KeyValue]:
        pending, execute, make = self.pending, self._execute, _key_value
        if len(rows) <= 1:
            return [pending.get(row) or make(execute(_SELECT, (row,)).fetchone()) for row in rows]
        missing = [row for row in rows if row not in pending]
        stored = map(make, execute(_SELECT_MANY, (str(missing),)))
        if len(missing) == len(rows):
            return list(stored)
        return [pending.get(row) or next(stored) for row in rows]

    def values(self, rows: Sequence[int]) -> list[bytes]:
        pending = self.pending
        missing = [row for row in rows if row not in pending]
        stored = self._execute(_SELECT_VALUES, (str(missing),))
        if len(missing) == len(rows):
            return [value for (value,) in stored]
        return [known.value if (known := pending.get(row)) is not None else next(stored)[0] for row in rows]


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
