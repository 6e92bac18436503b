"""The file of a backup: what comes out is what went in, and what is damaged, foreign or newer is refused."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tiphys.cluster.backup import archive
from tiphys.cluster.backup.archive import About, BackupError

ABOUT = About("up", "home", "n1", "192.0.2.1", "2026-06-01T12:00:00+00:00", 42)


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    key.write_bytes(b"secret" * 1000)
    key.chmod(0o640)
    made = tmp_path / "b.tar.gz"
    archive.write(made, ABOUT, {"files/pki/ca.key": key})
    return made


def rewritten(backup: Path, change: dict[str, object], more: dict[str, bytes] | None = None) -> Path:
    """The same backup with another header, and further files."""
    with tarfile.open(backup) as old:
        contents = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
    contents[archive.HEADER] = json.dumps({**json.loads(contents[archive.HEADER]), **change}).encode()
    with tarfile.open(backup, "w:gz") as new:
        for name, data in {**contents, **(more or {})}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return backup


def test_what_comes_out_is_what_went_in(backup: Path, tmp_path: Path) -> None:
    about = archive.read(backup, tmp_path / "out")
    assert replace(about, files={}, modes={}) == ABOUT
    out = tmp_path / "out/files/pki/ca.key"
    assert out.read_bytes() == b"secret" * 1000
    assert out.stat().st_mode & 0o777 == 0o640
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_newer_form_is_refused_by_name(backup: Path, tmp_path: Path) -> None:
    rewritten(backup, {"format": 2, "version": "9.1.0"})
    with pytest.raises(BackupError, match=r"format 2, made by Tiphys 9\.1\.0"):
        archive.read(backup, tmp_path / "out")


def test_a_file_with_other_contents_is_refused(backup: Path, tmp_path: Path) -> None:
    rewritten(backup, {"files": {"files/pki/ca.key": "0" * 64}})
    with pytest.raises(BackupError, match=r"files/pki/ca\.key in the backup is damaged"):
        archive.read(backup, tmp_path / "out")


def test_a_backup_that_is_cut_off_is_refused(backup: Path, tmp_path: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:-40])
    with pytest.raises(BackupError, match=r"b\.tar\.gz is no backup, or is damaged"):
        archive.read(backup, tmp_path / "out")


def test_a_missing_file_is_named(backup: Path, tmp_path: Path) -> None:
    rewritten(backup, {"files": {"files/pki/ca.key": digest_of(backup), "store.db": "0" * 64}})
    with pytest.raises(BackupError, match=r"store\.db is missing"):
        archive.read(backup, tmp_path / "out")


def digest_of(backup: Path) -> str:
    with tarfile.open(backup) as old:
        header = json.load(old.extractfile(archive.HEADER))  # type: ignore[arg-type]
    return str(header["files"]["files/pki/ca.key"])


@pytest.mark.parametrize("name", ["../outside", "files/../../outside", "/outside", "files/unknown"])
def test_no_path_leads_out_of_the_folder(name: str, backup: Path, tmp_path: Path) -> None:
    rewritten(backup, {}, {name: b"x"})
    with pytest.raises(BackupError, match="is none of its files"):
        archive.read(backup, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_another_tar_file_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as made:
        made.addfile(tarfile.TarInfo("readme"))
    with pytest.raises(BackupError, match=r"does not begin with backup\.json"):
        archive.read(other, tmp_path / "out")
