"""The newest revision, in its own file beside the database, to detect that the database has lost revisions.

The file says what had become durable, never more: it is written after each commit, in place and without waiting for
the disk. A kill leaves it exact; after a power cut it may be behind by what the system had not written back yet.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from google_crc32c import value as crc32c

log = logging.getLogger(__name__)

FILE_NAME = "revision"


class BadRevisionFile(Exception):
    """The file is there, but does not say a revision."""


def _line(revision: int) -> bytes:
    number = b"%020d" % revision
    return b"%b %08x\n" % (number, crc32c(number))


def read(directory: Path) -> int | None:
    """The newest revision that is known to have been durable; ``None`` without the file. Raises ``BadRevisionFile``."""
    path = directory / FILE_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    number = text[:20]
    if not number.isdigit() or text != _line(int(number)):
        raise BadRevisionFile(f"{path} does not say a revision")
    return int(number)


class NewestRevision:
    """The file, open for writing. ``write`` may be called in any thread, one at a time."""

    def __init__(self, directory: Path, revision: int) -> None:
        """Make the file or set it right; afterwards it is on disk."""
        self._path = directory / FILE_NAME
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._failed = False
        os.ftruncate(self._file, len(_line(revision)))
        self.write(revision)
        self.sync()

    def write(self, revision: int) -> None:
        """A commit was made durable. That this cannot be written down makes no write fail: the file is behind then."""
        try:
            os.pwrite(self._file, _line(revision), 0)
        except OSError as error:
            if not self._failed:
                log.warning("%s cannot be written, so that a loss may go unnoticed: %s", self._path, error)
            self._failed = True

    def sync(self) -> None:
        """Have it on disk, as after a power cut it is worth as much as it is new."""
        try:
            os.fdatasync(self._file)
        except OSError as error:
            log.warning("%s cannot be written to the disk: %s", self._path, error)

    def close(self) -> None:
        self.sync()
        os.close(self._file)
