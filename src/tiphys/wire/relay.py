"""Joins two byte streams: what comes from one goes to the other, in both directions."""

from __future__ import annotations

import asyncio
import contextlib

from tiphys.wire.http import ByteStream

_QUIET = 5.0
"""Seconds that one direction may be silent once the other has ended."""
_STALLED = 60.0
"""Seconds for which its reader may take nothing."""


async def relay(a: ByteStream, b: ByteStream, *, half_close: bool = False) -> None:
    """Copy in both directions until both have ended; then, and when cancelled, close both.

    A direction ends with its source (``read`` gives ``b""``), and its target is half-closed; or with its target, and
    then what its source still says is read and dropped. The other direction continues: what is under way in it arrives,
    at its reader's pace. With ``half_close`` it may be silent for as long as it likes, as is right for plain TCP. The
    protocols of exec, attach and port-forward half-close within their frames, so there the end of one direction is
    the end of the session: the other is cut once nothing has moved in it for some seconds.
    A slow reader holds the other's writer back.
    """
    ended = asyncio.Event()
    ways = (_Way(a, b, ended), _Way(b, a, ended))
    tasks = [asyncio.create_task(way.carry()) for way in ways]
    try:
        await ended.wait()
        for way in ways:
            await way.run_out(patient=half_close)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        a.close()
        b.close()


class _Way:
    """One direction."""

    def __init__(self, source: ByteStream, target: ByteStream, ended: asyncio.Event) -> None:
        self._source = source
        self._target = target
        self._either_ended = ended
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._bound = _QUIET
        """How long the present step may take, once the other direction has ended."""
        self._since = self._loop.time()

    async def carry(self) -> None:
        """Copy to the end, then drop what still comes."""
        try:
            await self._copy()
        finally:
            self._over.set()
            self._either_ended.set()
        with contextlib.suppress(ConnectionError):
            while await self._source.read():
                pass

    async def _copy(self) -> None:
        with contextlib.suppress(ConnectionError):  # either end is gone
            while data := await self._source.read():
                self._begin(_STALLED)
                self._target.write(data)
                await self._target.drain()
                self._begin(_QUIET)
            self._target.write_eof()

    def _begin(self, bound: float) -> None:
        self._bound = bound
        self._since = self._loop.time()

    async def run_out(self, *, patient: bool) -> None:
        """Wait for the end; not ``patient``: or until a step takes longer than it may."""
        while not self._over.is_set():
            left = None if patient else self._since + self._bound - self._loop.time()
            if left is not None and left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._over.wait()
