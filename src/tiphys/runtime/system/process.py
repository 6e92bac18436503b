"""One component as its own process: an event loop that SIGTERM and SIGINT end in order, and that is watched."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine
from typing import Any

from tiphys.runtime.watchdog import Watchdog

COLLECTED_AFTER = 5000, 20, 20
"""When the collector looks for cycles: one request of an API server makes some hundred objects, and hardly a cycle.

With Python's 700, 10, 10 it takes 4 % of the time of a pod's creation.
"""


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` until it ends or a signal cancels it; its exceptions are the caller's."""
    import uvloop

    gc.freeze()  # what has been imported stays
    gc.set_threshold(*COLLECTED_AFTER)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(main))


async def _until_signal(main: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(main)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        with Watchdog():
            await task
    except asyncio.CancelledError:
        if not stopping:
            raise
