"""containerd's own client, for what the CRI cannot ask: images put in from a file, and mounted without a container.

Source: https://github.com/containerd/containerd/tree/main/cmd/ctr
"""

from __future__ import annotations

import asyncio
import os


class CtrFailure(Exception):
    """The client is missing, or says that it cannot; the message is its own."""


async def ctr(socket: str | os.PathLike[str], *words: str, stdin: bytes | None = None) -> str:
    """What the client prints in the namespace of the CRI. Raises ``CtrFailure``."""
    command = ["ctr", "--address", os.fspath(socket), "--namespace", "k8s.io", *words]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise CtrFailure("the program ctr is missing; install the package containerd") from error
    output, errors = await process.communicate(stdin)
    if process.returncode != 0:
        raise CtrFailure(f"ctr {' '.join(words[:2])} failed: {errors.decode(errors='replace').strip()}")
    return output.decode()
