"""Debian's docker-registry for tests, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

USER, PASSWORD = "ann", "secret"
_HASHED = "$2b$04$OCfC/LleGNWw5gep.OfKvejrlmIM9KAVAxg6v0uaOYbVjaaxhn09a"
"""The password, as a registry keeps it."""
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/store}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""
_AUTH = "auth: {{htpasswd: {{realm: test, path: {folder}/passwords}}}}"


def skip_without_registry() -> None:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs Debian's docker-registry")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _configure(folder: Path, *, login: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "passwords").write_text(f"{USER}:{_HASHED}\n")
    auth = _AUTH.format(folder=folder) if login else ""
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port, auth=auth))
    return port


@contextlib.asynccontextmanager
async def registry(folder: Path, *, login: bool = False) -> AsyncIterator[int]:
    """Its port. ``login``: only ``USER`` with ``PASSWORD`` is served."""
    port = _configure(folder, login=login)
    words = ("docker-registry", "serve", str(folder / "config.yml"))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
    try:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.02)
        writer.close()
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
