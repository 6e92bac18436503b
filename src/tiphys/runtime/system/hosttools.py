"""Runs the host's tools (nft, iptables, conntrack, ip) with text in and text out."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence

Run = Callable[[Sequence[str], str], Awaitable[str]]
"""(arguments, standard input) → standard output. Raises ``CommandError``."""

TIMEOUT = 30.0
BYTES_A_SECOND = 200_000
"""Of input: it may take so much longer."""


class CommandError(Exception):
    """A tool that failed, or is not there; the message carries what it said."""


class NotRun(CommandError):
    """A tool that is not there, or did not end: it has said nothing."""


class NotThere(NotRun):
    """A tool that this machine does not have, or may not run."""


async def run(arguments: Sequence[str], text: str = "", *, timeout: float = TIMEOUT) -> str:
    """The standard output of a command that is given ``text``; ``timeout`` in seconds, more for a long text. Raises
    ``CommandError``.

    The text is in a file and no pipe: a tool that ends before it has read a pipe to its end breaks the writer.
    """
    try:
        with tempfile.TemporaryFile() as file:
            file.write(text.encode())
            file.seek(0)
            process = await asyncio.create_subprocess_exec(
                *arguments, stdin=file, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
    except OSError as error:
        raise NotThere(f"cannot run {arguments[0]}: {os.strerror(error.errno or 0).lower()}") from error
    timeout += len(text) / BYTES_A_SECOND
    try:
        async with asyncio.timeout(timeout):
            output, complaint = await process.communicate()
    except TimeoutError as error:
        raise NotRun(f"{arguments[0]} did not end within {timeout:.0f} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise CommandError(f"{' '.join(arguments[:3])}: {complaint.decode(errors='replace')[:2000].strip()}")
    return output.decode(errors="replace")


def have(tool: str) -> bool:
    return shutil.which(tool) is not None
