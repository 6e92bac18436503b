"""Where backups are kept: a folder, or a bucket of any service that speaks S3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tiphys.cluster.backup.archive import BackupError

SCHEME = "s3"


class Place(Protocol):
    """Files by their names. Its methods may block, and raise ``BackupError``."""

    def names(self) -> list[str]: ...

    def put(self, source: Path, name: str) -> None: ...

    def fetch(self, name: str, target: Path) -> None: ...

    def remove(self, name: str) -> None: ...


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return [path.name for path in self._path.iterdir()]

    def put(self, source: Path, name: str) -> None:
        part = self._path / f".{name}.part"
        try:
            shutil.copy2(source, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(self._path / name)
        except OSError as error:
            raise BackupError(f"cannot write {self._path / name}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def fetch(self, name: str, target: Path) -> None:
        try:
            shutil.copyfile(self._path / name, target)
        except OSError as error:
            raise BackupError(f"cannot read {self._path / name}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)


class Bucket:
    """``s3://BUCKET/PREFIX``. Credentials, region and address are boto3's to find: ``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL`` and the rest of the environment, its files, the instance."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._s3 = _client()

    def names(self) -> list[str]:
        with self._failing("list"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        return [key.removeprefix(self._prefix) for key in keys]

    def put(self, source: Path, name: str) -> None:
        with self._failing(f"write {name}"):
            self._s3.upload_file(str(source), self._bucket, self._prefix + name)

    def fetch(self, name: str, target: Path) -> None:
        target.touch(mode=0o600)
        with self._failing(f"read {name}"):
            self._s3.download_file(self._bucket, self._prefix + name, str(target))

    def remove(self, name: str) -> None:
        with self._failing(f"remove {name}"):
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise BackupError(f"cannot {what} in s3://{self._bucket}/{self._prefix}: {error}") from error


def _client() -> Any:
    try:
        import boto3
    except ImportError as error:
        raise BackupError("s3:// needs boto3, which is not installed; pip install 'tiphys[s3]'") from error
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.client("s3")
    except (BotoCoreError, ValueError) as error:
        raise BackupError(f"S3 cannot be used: {error}") from error


def place_of(text: str) -> Place:
    """The place that a command names: a folder, or ``s3://bucket/prefix``. Raises ``BackupError``."""
    if "://" not in text:
        return Folder(Path(text))
    url = urlsplit(text)
    if url.scheme != SCHEME or not url.netloc:
        raise BackupError(f"{text} is no place for backups; name a folder, or s3://BUCKET/PREFIX")
    return Bucket(url.netloc, url.path)
