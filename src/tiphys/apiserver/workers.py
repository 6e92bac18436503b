"""Several processes that serve one API on one port: reads and watches grow with the machine's cores.

Each worker is a whole API server with caches of its own, as several servers over one etcd are; the kernel spreads new
connections over those that listen (SO_REUSEPORT). Worker 0 keeps the embedded store, if there is one, and the others
write through it (``store.sharing``). A worker that dies is made again; its clients reconnect, and find another.

Figures are each worker's own. Whichever is scraped asks the others for theirs, and shows all with a label ``worker``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tiphys.apiserver.server import APIServer
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart
from tiphys.runtime.system.forks import keep_running
from tiphys.store.backend import Backend
from tiphys.store.embedded import Embedded
from tiphys.wire.reserving import reserve

log = logging.getLogger(__name__)

_ASK_SECONDS = 2.0
_MAX_FIGURES = 64 << 20
_SAMPLE = re.compile(rb"^([A-Za-z_:][A-Za-z0-9_:]*)(\{)?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's place. ``folder`` is open to the workers alone."""

    number: int
    count: int
    folder: Path

    @property
    def keeps_store(self) -> bool:
        return self.number == 0

    async def wait_for_first(self, clock: Clock) -> None:
        """Return when worker 0 has served once: the store is open then, and certificates have been made."""
        while self.number and not (self.folder / "ready").exists():
            await clock.sleep(0.02)

    def serves(self) -> None:
        """This worker answers requests."""
        if self.number == 0:
            (self.folder / "ready").touch()

    def fresh_socket(self) -> str:
        """This worker's socket for figures, which nobody has made yet."""
        path = self.figures_socket(self.number)
        Path(path).unlink(missing_ok=True)  # of a worker that was killed
        return path

    def figures_socket(self, number: int) -> str:
        return str(self.folder / f"figures-{number}.sock")


def seat_workers(count: int, address: str, port: int, serve: Callable[[Seat], int]) -> int:
    """Run ``count`` workers until a signal ends them; the exit status. Raises ``CannotStart`` if the port is taken."""
    try:
        reserve(address, port).close()
    except OSError as error:
        where = f"{address}:{port}"
        raise CannotStart(f"cannot listen on {where}: {os.strerror(error.errno or 0)}; use another port") from error
    with tempfile.TemporaryDirectory(prefix="kube-apiserver-") as folder:
        return keep_running(count, lambda number: serve(Seat(number, count, Path(folder))))


async def store_of(seat: Seat | None, opened: Callable[[], Awaitable[Embedded]], clock: Clock) -> Backend:
    """The embedded store: as ``opened`` gives it, or for a worker that does not keep it that of the one that does."""
    if seat is None or seat.keeps_store:
        return await opened()
    from tiphys.store.sharing import SharedStore

    return SharedStore(seat.folder, clock)


@contextlib.asynccontextmanager
async def among_workers(seat: Seat, server: APIServer, store: Backend) -> AsyncIterator[None]:
    """Share figures, and the embedded store if it is kept here, with the other workers."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(figures_shared(seat, server.paths.figures))
        server.paths.all_figures = partial(all_figures, seat)
        if isinstance(store, Embedded):
            from tiphys.store.sharing import share

            shared = await share(store, seat.folder)
            stack.push_async_callback(shared.stop)
        yield


@contextlib.asynccontextmanager
async def figures_shared(seat: Seat, own: Callable[[], bytes]) -> AsyncIterator[None]:
    """Give the other workers this one's figures, as text, while it runs."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(own())
            await writer.drain()
        except ConnectionError:
            log.debug("a worker left before it had all figures")
        finally:
            writer.close()

    async with await asyncio.start_unix_server(answer, seat.fresh_socket()):
        yield


async def all_figures(seat: Seat, own: bytes) -> bytes:
    """The figures of all workers that answer, in one exposition."""

    async def ask(number: int) -> bytes:
        if number == seat.number:
            return own
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(seat.figures_socket(number), limit=_MAX_FIGURES)
                with contextlib.closing(writer):
                    return await reader.read(-1)
        except (OSError, TimeoutError) as error:
            log.warning("worker %d does not say its figures: %s", number, error or "it does not answer")
            return b""

    return merge_figures(await asyncio.gather(*(ask(number) for number in range(seat.count))))


def merge_figures(texts: Iterable[bytes]) -> bytes:
    """One exposition out of each worker's: families once, samples with the label ``worker``, by its place."""
    families: dict[bytes, list[bytes]] = {}
    for number, text in enumerate(texts):
        label = b'worker="%d"' % number
        for block in text.split(b"# HELP ")[1:]:
            head, kind, samples = (*block.split(b"\n", 2), b"", b"")[:3]
            family = families.setdefault(head, [b"# HELP " + head, kind])
            family.append(_SAMPLE.sub(partial(_labelled, label), samples).rstrip(b"\n"))
    return b"\n".join(line for family in families.values() for line in family if line) + b"\n"


def _labelled(label: bytes, sample: re.Match[bytes]) -> bytes:
    return b"%s{%s%s" % (sample[1], label, b"," if sample[2] else b"}")
