"""Making a data directory out of a snapshot.

Source: https://etcd.io/docs/v3.6/op-guide/recovery/
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

from tiphys.store import snapshot
from tiphys.store.newest import NewestRevision
from tiphys.store.sqlfile import CannotOpen, DataDirectory, StoreFile

_ROWS_AT_ONCE = 5000


def restore(path: Path, directory: Path, *, skip_hash: bool = False, bump: int = 0) -> tuple[int, int]:
    """Fill a new data directory from a snapshot of Tiphys or of etcd; returns how many changes, and the revision.

    ``bump``: the store continues so many revisions later, and all before that is compacted. So no client that saw
    revisions after the snapshot takes a later one for the same, and every watch from before has to list again.

    Raises ``BadSnapshot``, or ``CannotOpen`` if the directory holds something already.
    """
    if directory.exists() and any(directory.iterdir()):
        raise CannotOpen(f'data-dir "{directory}" not empty or could not be read')
    snapshot.verify(path, skip_hash=skip_hash)
    contents = snapshot.read(path)
    if bump:
        contents = replace(contents, compacted=contents.revision)
    revision = contents.revision + bump
    place = DataDirectory(directory)
    try:
        file = StoreFile(place)
        try:
            count = 0
            file.writer.execute("BEGIN IMMEDIATE")
            rows = iter(contents.kept())
            while chunk := list(islice(rows, _ROWS_AT_ONCE)):
                file.insert_rows(chunk)
                count += len(chunk)
            for lease in contents.leases:
                file.add_lease(*lease)
            if contents.compacted:
                file.set_meta("compacted", revision if bump else contents.compacted)
            file.commit()
        finally:
            file.close()
        NewestRevision(directory, revision).close()
    finally:
        place.release()
    return count, revision
