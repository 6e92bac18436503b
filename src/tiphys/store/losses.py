"""What a store has lost since it was last open: found when it is opened, and refused unless the loss is accepted.

Three witnesses: the log behind the point at which SQLite stops (``walfile``), the newest revision in a file beside the
database (``newest``), and the seals of the rows (``seals``). The first look is taken before SQLite opens the files, as
it takes an empty file for a new database, and a damaged log for the end of one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tiphys.store import newest, walfile
from tiphys.store.sqlfile import CannotOpen, DataDirectory, StoreFile

log = logging.getLogger(__name__)

ROWS_AT_OPEN = 2_000
"""So many rows are held against their seals before the store is served, in some 3 ms; the others while it is."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was beside the database before it was opened."""

    frames: list[walfile.Frame]
    revision: int
    """The newest that is known to have been durable; 0: none is."""


def look(place: DataDirectory, *, accept_loss: bool) -> Before:
    """The first look. Raises ``CannotOpen`` when the database is missing and what belongs to it is there."""
    losses = []
    log_file = _log_of(place)
    try:
        revision = newest.read(place.path) or 0
    except newest.BadRevisionFile as error:
        losses.append(str(error))
        revision = 0
    frames = walfile.frames(log_file)
    if not _has_data(place.file) and (_has_data(log_file) or revision > 1):
        losses.append(f"the database {place.file} is missing or empty, but what belongs to it is there")
        if accept_loss and log_file.exists():
            log_file.rename(log_file.with_name(f"{log_file.name}.lost"))
            frames = []
    _refuse(place, losses, accept_loss=accept_loss)
    return Before(frames, revision)


def check(place: DataDirectory, file: StoreFile, before: Before, *, accept_loss: bool) -> None:
    """The second look, at what SQLite has opened. Raises ``CannotOpen``."""
    losses = []
    held = file.revision()
    if walfile.lost(before.frames, walfile.valid_frames(place.file.with_name(f"{place.file.name}-shm"))):
        losses.append(
            f"the log {_log_of(place)} is damaged: it holds commits that cannot be read, after revision {held}"
        )
    if before.revision > held:
        losses.append(f"the newest revision was {before.revision}, and the database ends at {held}")
    file.checked_to, wrong = file.check_rows(limit=-1 if accept_loss else ROWS_AT_OPEN)
    losses += [sentence for _, sentence in wrong]
    _refuse(place, losses, accept_loss=accept_loss)
    if losses:
        file.check()
        file.accept([row for row, _ in wrong], max(held, before.revision))


def _refuse(place: DataDirectory, losses: list[str], *, accept_loss: bool) -> None:
    if losses and not accept_loss:
        raise CannotOpen(refusal(place.path, losses))
    for loss in losses:
        log.error("data was lost, which was accepted: %s", loss)


def refusal(path: Path, losses: list[str]) -> str:
    more = f" (and {len(losses) - 3} more)" if len(losses) > 3 else ""
    return (
        f"the store in {path} is damaged: {'; '.join(losses[:3])}{more}: restore the last snapshot into an empty "
        "directory with `tiphys etcdctl snapshot restore`, or start once with --accept-data-loss to go on with what "
        "is left"
    )


def _log_of(place: DataDirectory) -> Path:
    return place.file.with_name(f"{place.file.name}-wal")


def _has_data(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
