"""One embedded store for several processes of a machine: the keeper has it open, the others reach it by a Unix socket.

Beside the socket lies the store's newest revision, in memory that all of them map. The keeper writes it before it
acknowledges a write, so whoever has to see every write that returned compares two integers, as the keeper itself does,
and asks nobody.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from tiphys.runtime.clock import Clock
from tiphys.store.embedded import Embedded
from tiphys.store.etcdclient import EtcdBackend
from tiphys.store.etcdserver.member import Member
from tiphys.store.etcdserver.server import EtcdServer

_SOCKET, _REVISION = "store.sock", "revision"
_MAX_MESSAGE = 16 << 20
"""Bytes of one request: the API server's own limits come before this one."""


class SharedRevision:
    """A revision in mapped memory. One process writes, in one aligned store that no reader sees half of."""

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder / _REVISION, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, mmap.PAGESIZE)
            self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        finally:
            os.close(descriptor)
        self._number = memoryview(self._memory).cast("q")

    def write(self, revision: int) -> None:
        self._number[0] = revision

    def read(self) -> int:
        return self._number[0]


class SharedStore(EtcdBackend):
    """The keeper's store, as the other processes have it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__([f"unix:{folder / _SOCKET}"], clock=clock)
        self._newest = SharedRevision(folder)

    async def current_revision(self) -> int:
        return self._newest.read()


async def share(store: Embedded, folder: Path) -> EtcdServer:
    """Let the processes that can enter ``folder`` use the store. Raises ``OSError``."""
    newest = SharedRevision(folder)
    store.publish_to(newest.write)
    path = folder / _SOCKET
    path.unlink(missing_ok=True)  # of a keeper that was killed
    server = EtcdServer(Member(store, "keeper", [f"unix:{path}"]), max_message=_MAX_MESSAGE)
    await server.listen_unix(str(path))
    return server
