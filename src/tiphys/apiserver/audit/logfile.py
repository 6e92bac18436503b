"""The log backend: one line for each event, in a file that is rotated by size.

Rotated files carry the time of their rotation in the name, as lumberjack's do, so that the tools that collect them know
them: ``audit-2026-01-02T03-04-05.678.log``, ``.gz`` if compressed.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import orjson

from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.apiserver.audit.backend import Failed
from tiphys.apiserver.audit.config import LogConfig
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)


_STAMP = "%Y-%m-%dT%H-%M-%S"
_DAY = 86_400.0


class LogBackend:
    name = "log"

    def __init__(self, config: LogConfig, clock: Clock, failed: Failed) -> None:
        """Opens the file. Raises ``OSError``."""
        self._render: Callable[[Object], bytes] = json_line if config.format == "json" else legacy_line
        self._failed = failed
        self._file = None if config.path == "-" else RotatingFile(config, clock)

    async def process(self, events: Sequence[Object]) -> bool:
        data = b"".join(map(self._render, events))
        try:
            if self._file is None:
                _write_text(sys.stdout, data)
            else:
                self._file.write(data)
        except OSError as error:
            log.error("the audit log cannot be written: %s", error)
            self._failed(self.name, len(events))
            return False
        return True

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _write_text(stream: TextIO, data: bytes) -> None:
    stream.write(data.decode())
    stream.flush()


def json_line(event: Object) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def legacy_line(event: Object) -> bytes:
    """The line of text of before the audit API: the request without its objects."""
    user, impersonated = event["user"], event.get("impersonatedUser")
    groups = user.get("groups")
    as_groups = None if impersonated is None else impersonated.get("groups")
    fields = {
        "id": event["auditID"],
        "stage": event["stage"],
        "ip": (event.get("sourceIPs") or ["<unknown>"])[0],
        "method": event["verb"],
        "user": user.get("username") or "<none>",
        "groups": _list(groups) if groups and user.get("username") else "<none>",
        "as": "<self>" if impersonated is None else impersonated["username"],
        "asgroups": "<lookup>" if as_groups is None else _list(as_groups),
        "user-agent": event.get("userAgent", ""),
        "namespace": event.get("objectRef", {}).get("namespace") or "<none>",
        "uri": event["requestURI"],
    }
    status = event.get("responseStatus")
    response = "<deferred>" if status is None else str(status.get("code", 0))
    quoted = " ".join(f"{name}={quote(value)}" for name, value in fields.items())
    return f'{event["requestReceivedTimestamp"]} AUDIT: {quoted} response="{response}"\n'.encode()


def _list(texts: Sequence[str]) -> str:
    return ",".join(quote(text) for text in texts)


class RotatingFile:
    """A file that only its owner may read, moved aside before it would grow past its limit."""

    def __init__(self, config: LogConfig, clock: Clock) -> None:
        self._path = Path(config.path)
        self._config = config
        self._clock = clock
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes) -> None:
        limit = self._config.max_size
        if limit and self._size and self._size + len(data) > limit:
            self._rotate()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._size += len(data)

    def _rotate(self) -> None:
        os.close(self._descriptor)
        now = self._clock.now()
        stamp = f"{datetime.fromtimestamp(now, UTC).strftime(_STAMP)}.{int(now * 1000) % 1000:03d}"
        aside = self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}")
        self._path.rename(aside)
        self._open()
        if self._config.compress:
            _compress(aside)
        self._remove_old()

    def _remove_old(self) -> None:
        backups = sorted(self._path.parent.glob(f"{self._path.stem}-*{self._path.suffix}*"), reverse=True)
        keep = self._config.max_backups or len(backups)
        oldest = self._clock.now() - self._config.max_age * _DAY
        for number, backup in enumerate(backups):
            if number >= keep or (self._config.max_age and backup.stat().st_mtime < oldest):
                backup.unlink()

    def close(self) -> None:
        os.close(self._descriptor)


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    descriptor = os.open(packed, os.O_WRONLY | os.O_CREAT, 0o600)
    with path.open("rb") as plain, os.fdopen(descriptor, "wb") as file, gzip.open(file, "wb") as archive:
        shutil.copyfileobj(plain, archive)
    path.unlink()
