"""Keeps a node's routes in step with the cluster's nodes, and sets which pod addresses are the node's own.

It runs beside the proxy, over the same client, and apart from it: what goes wrong here keeps no Service from working.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.proxy import command_runner
from tiphys.proxy.command_runner import CommandError, Run
from tiphys.proxy.podnetwork import routes
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

Configure = Callable[[tuple[str, ...]], Awaitable[None]]
"""Given the ranges that the node's pods have: writes the node's network configuration. Repeats are no error."""

PERIOD = 30.0
"""How often the kernel's routes are looked at although nothing is known to have changed."""


class PodNetwork:
    def __init__(
        self, *, node_name: str, client: Client, clock: Clock, configure: Configure, run: Run = command_runner.run
    ) -> None:
        self._name = node_name
        self._clock = clock
        self._configure = configure
        self._run = run
        self._wake = asyncio.Event()
        self._nodes = Informer(client, NODES, clock)
        self._nodes.add_handler(Callbacks(changed=lambda _: self._wake.set()))

    async def run(self) -> None:
        async with Runner(self._clock, "pod network ") as runner:
            runner.supervise(self._nodes.run, "informer nodes")
            await self._nodes.wait_synced()
            await runner.supervise(self._keep_in_step, "sync")

    async def _keep_in_step(self) -> None:
        while True:
            self._wake.clear()
            await self.sync()
            try:
                async with asyncio.timeout(PERIOD):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def sync(self) -> None:
        """Bring the node's own configuration and its routes to what the nodes say now. What fails is logged."""
        own = self._nodes.store.get("", self._name)
        try:
            if own is not None and (ranges := routes.pod_ranges(own)):
                await self._configure(ranges)
            present, wires = await self.present(), await self._wires()
            # Read after the last wait, so that no node is missed that came meanwhile.
            batch = routes.commands(present, routes.wanted(self._nodes.store.list(), self._name, wires))
            if batch:
                log.info("changing %d routes to the pods of other nodes", len(batch))
                await self._run(("ip", "-force", "-batch", "-"), "\n".join(batch) + "\n")
        except CommandError as error:
            log.warning("the pod network is not as it should be; looking again in %.0f s: %s", PERIOD, error)

    async def present(self) -> dict[str, str]:
        """Our routes that the kernel has."""
        present: dict[str, str] = {}
        for family in ("-4", "-6"):
            listed = await self._run(("ip", "-json", family, "route", "show", "proto", routes.PROTOCOL), "")
            present |= {route["dst"]: route.get("gateway", "") for route in json.loads(listed or "[]")}
        return present

    async def _wires(self) -> list[str]:
        listed = json.loads(await self._run(("ip", "-json", "address", "show", "up"), "") or "[]")
        return [
            f"{address['local']}/{address['prefixlen']}"
            for interface in listed
            if "LOOPBACK" not in interface.get("flags", ())
            for address in interface.get("addr_info") or ()
        ]


async def cleanup(run: Run = command_runner.run) -> None:
    """Take our routes away, where there are any."""
    if command_runner.have("ip"):
        for family in ("-4", "-6"):
            await run(("ip", family, "route", "flush", "proto", routes.PROTOCOL), "")
