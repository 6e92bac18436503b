"""A running haproxy in master-worker mode: files are checked before they are used, and a reload keeps connections.

The master process starts new workers on a reload, which are given its listening sockets; the old ones finish what they
have. Source: https://docs.haproxy.org/2.6/management.html
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tiphys.runtime.system import hosttools

PROGRAM = "haproxy"
CHECK_SECONDS, ANSWER_SECONDS = 30.0, 10.0
_POLL = 0.05


class ProxyError(Exception):
    """What haproxy did not take; the message is what it said."""


class NotChecked(ProxyError):
    """haproxy said nothing: it is not here, or did not end."""


async def wait_started(master: Path) -> None:
    """Wait until a worker takes connections. Raises ``ProxyError``."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            while not await workers(master):
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise ProxyError("haproxy was started, and does not serve; see its log") from error


def command(configuration: Path, master: Path) -> list[str]:
    """How it is started, with a socket for ``reload``."""
    return [PROGRAM, "-W", "-S", f"unix@{master},mode,600", "-f", str(configuration)]


async def check(configuration: Path) -> None:
    """Raises ``ProxyError`` for a file that haproxy does not take, or if haproxy is not there."""
    try:
        await hosttools.run((PROGRAM, "-c", "-f", str(configuration)), timeout=CHECK_SECONDS)
    except hosttools.NotThere as error:
        raise NotChecked(f"{error}; install Debian's package haproxy") from error
    except hosttools.NotRun as error:
        raise NotChecked(str(error)) from error
    except hosttools.CommandError as error:
        raise ProxyError(str(error)) from error


async def reload(master: Path) -> None:
    """Load the files again, and wait until a new worker has them. Raises ``ProxyError``."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            before = await workers(master)
            await ask(master, "reload")
            while not (now := await workers(master)) or now & before:
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise ProxyError("haproxy has not loaded what was checked to be good; see its log") from error


async def workers(master: Path) -> set[str]:
    """The processes that take connections now. Waits for the master, which starts itself again at a reload.

    Raises ``ProxyError``.
    """
    deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
    while True:
        try:
            return current_workers(await ask(master, "show proc"))
        except ProxyError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_POLL)


async def ask(socket: Path, line: str) -> str:
    """What haproxy answers on one of its sockets. Raises ``ProxyError``."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{line}\n".encode())
                await writer.drain()
                writer.write_eof()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        raise ProxyError(f"haproxy does not answer at {socket}: {error}") from error


def current_workers(answer: str) -> set[str]:
    """Process ids, from the section of a ``show proc`` that is headed so."""
    section, workers = "", set()
    for line in answer.splitlines():
        if line.startswith("# "):
            section = line
        elif section == "# workers" and (words := line.split()) and words[0].isdigit():
            workers.add(words[0])
    return workers
