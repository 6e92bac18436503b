"""Running the dashboard: its listener, and the sweep of sessions whose time is over."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.addons.dashboard.assets import Assets
from tiphys.addons.dashboard.guard import LOCAL_NAMES
from tiphys.addons.dashboard.handler import DashboardHandler, Door
from tiphys.runtime.clock import Clock
from tiphys.wire.server import Limits, Server, serve

_SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """Without ``tls`` the server is for this machine alone, and answers to its own names only."""

    address: str
    port: int
    tls: ssl.SSLContext | None = None


async def run(config: DashboardConfig, door: Door, clock: Clock, ready: Callable[[int], None]) -> None:
    """Serve until cancelled; ``ready`` is given the port. Raises ``OSError`` if it is taken."""
    listening: list[Server] = []
    handler = DashboardHandler(
        door,
        await asyncio.to_thread(Assets),
        clock,
        port=lambda: listening[0].port,
        secure=config.tls is not None,
        names=frozenset() if config.tls is not None else LOCAL_NAMES,
    )
    server = await serve(handler, config.address, config.port, tls=config.tls, limits=Limits())
    listening.append(server)
    try:
        ready(server.port)
        while True:
            await clock.sleep(_SWEEP_SECONDS)
            handler.sessions.sweep(clock.monotonic())
    finally:
        await server.close(grace=0.5)
