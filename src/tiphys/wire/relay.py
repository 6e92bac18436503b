"""Joins two byte streams: what comes from one goes to the other, in both directions."""

from __future__ import annotations

import asyncio

from tiphys.wire.http import ByteStream


class _Finished(Exception):
    """One direction has ended, and so has the relay."""


async def relay(a: ByteStream, b: ByteStream, *, half_close: bool = False) -> None:
    """Copy in both directions until either end has finished; then, and when cancelled, close both.

    What was read before the end is still delivered. With ``half_close``, an end that has only finished sending
    (``read`` gives ``b""``) is half-closed towards the other, which may go on: right for plain TCP, where both ends
    can. The protocols of exec, attach and port-forward half-close within their frames, and want the default.
    A slow reader holds the other's writer back.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(a, b, half_close))
            group.create_task(_copy(b, a, half_close))
    except* (_Finished, ConnectionError):
        pass  # nothing is left to carry
    finally:
        a.close()
        b.close()


async def _copy(source: ByteStream, target: ByteStream, half_close: bool) -> None:
    while data := await source.read():
        target.write(data)
        await target.drain()
    if not half_close or not target.write_eof():
        raise _Finished
