"""The form of a backup: a gzip tar file that begins with ``backup.json``, which says what it is and what is in it.

A newer form is refused by name. Every file is held against its digest before any is used, and no path in the file leads
out of the folder that it is unpacked into.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tiphys import __version__

FORMAT = 1
HEADER = "backup.json"
STORE = "store.db"
"""The store's snapshot, in etcd's form."""


class BackupError(Exception):
    """A backup cannot be made or used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class About:
    """What a backup says of itself. ``files`` maps each path in it to its SHA-256, ``modes`` to its permissions."""

    kind: str
    cluster: str
    node: str
    address: str
    created: str
    """RFC 3339, in UTC."""
    revision: int
    format: int = FORMAT
    version: str = __version__
    files: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)


def write(target: Path, about: About, files: Mapping[str, Path]) -> About:
    """Write ``files``, by their paths in the backup, to ``target``: whole or not at all, for its owner's eyes only.

    Returns what the backup says of itself. Nobody else changes the files meanwhile.
    """
    digests = {name: _digest(path) for name, path in sorted(files.items())}
    modes = {name: path.stat().st_mode & 0o777 for name, path in sorted(files.items())}
    about = replace(about, files=digests, modes=modes)
    header = json.dumps(asdict(about), indent=2).encode()
    part = target.with_name(f".{target.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=4) as archive:
                _add(archive, HEADER, io.BytesIO(header), len(header))
                for name, path in sorted(files.items()):
                    with path.open("rb") as content:
                        _add(archive, name, content, path.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        return about
    finally:
        part.unlink(missing_ok=True)


def read(source: Path, folder: Path) -> About:
    """Unpack a backup into ``folder`` and check it. Raises ``BackupError``."""
    try:
        with tarfile.open(source, "r:gz") as archive:
            about = _header(archive, source)
            for member in archive.getmembers()[1:]:
                _unpack(archive, member, about, folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"{source} is no backup, or is damaged: {error}") from error
    if missing := sorted(name for name in about.files if not (folder / name).is_file()):
        raise BackupError(f"{source} is cut off: {missing[0]} is missing")
    return about


def _header(archive: tarfile.TarFile, source: Path) -> About:
    first = archive.next()
    content = archive.extractfile(first) if first is not None and first.name == HEADER else None
    if content is None:
        raise BackupError(f"{source} is no backup of Tiphys: it does not begin with {HEADER}")
    values: dict[str, Any] = json.load(content)
    if values.get("format") != FORMAT:
        made = values.get("version", "another version")
        raise BackupError(f"{source} has format {values.get('format')}, made by Tiphys {made}; restore it with that")
    return About(**values)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, about: About, folder: Path) -> None:
    if member.name not in about.files or not member.isfile() or ".." in PurePosixPath(member.name).parts:
        raise BackupError(f"{member.name} in the backup is none of its files")
    target = folder / member.name
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = archive.extractfile(member)
    assert content is not None
    mode = about.modes.get(member.name, 0o600)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
    if _digest(target) != about.files[member.name]:
        raise BackupError(f"{member.name} in the backup is damaged: its contents do not have their SHA-256")


def _add(archive: tarfile.TarFile, name: str, content: BinaryIO, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    archive.addfile(info, content)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
