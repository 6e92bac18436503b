"""Small batches of nftables commands through libnftables in this process: starting ``nft`` costs more than they do.

The library comes with Debian's ``nft`` (libnftables(3)). Its context is used by one thread of its own. Large batches go
to a process, which returns their memory when it ends; so does everything if the library is not there.

Source: libnftables(3)
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError

log = logging.getLogger(__name__)

LARGEST = 64 * 1024
"""Bytes of a batch that is executed in this process."""
_LIBRARY = "libnftables.so.1"
_BATCH = ("nft", "-f", "-")


class Libnftables:
    """A context of the library. Raises ``OSError`` if there is no such library."""

    def __init__(self) -> None:
        self._library = _loaded()
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        if not self._context:
            raise OSError("libnftables gives no context")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def execute(self, text: str) -> None:
        """Execute commands as one transaction. Raises ``CommandError``."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        complaint = self._library.nft_ctx_get_error_buffer(self._context)
        self._library.nft_ctx_get_output_buffer(self._context)
        if failed:
            raise CommandError(f"nft: {complaint.decode(errors='replace')[:2000].strip()}")


@functools.cache
def _loaded() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


class Tools:
    """A ``Run`` that executes small batches of ``nft -f -`` in this process, and starts everything else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="libnftables")
        self._nft: Libnftables | None = None
        try:
            self._nft = Libnftables()
        except OSError as error:
            log.info("starting nft for every change: %s", error)

    async def __call__(self, arguments: Sequence[str], text: str = "") -> str:
        if self._nft is None or tuple(arguments) != _BATCH or len(text) > LARGEST:
            return await hosttools.run(arguments, text)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._nft.execute, text)
        return ""


@functools.cache
def tools() -> Tools:
    """The process's own: one context and one thread serve all tables."""
    return Tools()
