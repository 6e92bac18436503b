"""Keeps a node's routes in step with the cluster's nodes, and sets which pod addresses are the node's own.

It runs beside the proxy, over the same client, and apart from it: what goes wrong here keeps no Service from working.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.proxy.podnetwork import overlay, routes
from tiphys.proxy.podnetwork.overlay import DEVICE, Tunnel
from tiphys.runtime.clock import Clock
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

Configure = Callable[[tuple[str, ...], int], Awaitable[None]]
"""Given the ranges that the node's pods have, and how large their packets may be (0: as large as the wire's): writes
the node's network configuration. Repeats are no error."""

PERIOD = 30.0
"""How often the kernel's routes are looked at although nothing is known to have changed."""


class PodNetwork:
    """``direct`` are addresses of nodes to whose pods the default route leads, though they are on no wire of ours."""

    def __init__(
        self,
        *,
        node_name: str,
        client: Client,
        clock: Clock,
        configure: Configure,
        direct: Collection[str] = (),
        run: Run = hosttools.run,
    ) -> None:
        self._name = node_name
        self._clock = clock
        self._configure = configure
        self._direct = direct
        self._run = run
        self._wake = asyncio.Event()
        self._nodes = Informer(client, NODES, clock)
        self._nodes.add_handler(Callbacks(changed=lambda _: self._wake.set(), updated=self._node_changed))

    async def run(self) -> None:
        async with Runner(self._clock, "pod network ") as runner:
            runner.supervise(self._nodes.run, "informer nodes")
            await self._nodes.wait_synced()
            await runner.supervise(self._keep_in_step, "sync")

    def _node_changed(self, old: Object, new: Object) -> None:
        """Each look costs several processes, and most changes of nodes are reports of their health."""
        if routes.matters(old) != routes.matters(new):
            self._wake.set()

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
        try:
            wires = routes.wires_of(await self._json("address", "show", "up"), but=DEVICE)
            # Read after the last wait, so that no node is missed that came meanwhile.
            nodes = self._nodes.store.list()
            own = self._nodes.store.get("", self._name)
            tunnel = overlay.tunnel(nodes, self._name, wires, self._direct)
            if own is not None and (ranges := routes.pod_ranges(own)):
                await self._configure(ranges, tunnel.mtu if tunnel is not None else 0)
            await apply_tunnel(tunnel, self._run)
            await apply_routes(routes.wanted(nodes, self._name, wires), tunnel, self._run)
        except CommandError as error:
            log.warning("the pod network is not as it should be; looking again in %.0f s: %s", PERIOD, error)

    async def _json(self, *words: str) -> Any:
        return await listed(self._run, *words)


async def apply_tunnel(tunnel: Tunnel | None, run: Run) -> None:
    """Make the tunnel's device what it should be, or remove it."""
    present = next(iter(await listed(run, "-details", "link", "show", "type", "vxlan", named=DEVICE)), None)
    if present is not None and (tunnel is None or not overlay.fits(present, tunnel)):
        await run(("ip", "link", "delete", DEVICE), "")
        present = None
    if tunnel is None:
        return
    if present is None:
        log.info("nodes behind a router are reached by VXLAN from %s", tunnel.local)
        await run(("ip", "-batch", "-"), "\n".join(overlay.make(tunnel)) + "\n")
    fdb = json.loads(await run(("bridge", "-json", "fdb", "show", "dev", DEVICE), "") or "[]")
    ends = {entry["mac"]: entry["dst"] for entry in fdb if entry.get("dst")}
    neighbours = [entry["dst"] for entry in await listed(run, "neigh", "show", "dev", DEVICE, "nud", "permanent")]
    lines, fdb_lines = overlay.settle(tunnel, ends, neighbours)
    await run(("ip", "-batch", "-"), "\n".join(lines) + "\n")
    await run(("bridge", "-batch", "-"), "\n".join(fdb_lines) + "\n")


async def apply_routes(direct: routes.Routes, tunnel: Tunnel | None, run: Run) -> None:
    """Make our routes what they should be: those by wires, and those by the tunnel."""
    wanted = direct | (tunnel.routes if tunnel is not None else {})
    present: routes.Routes = {}
    for family in ("-4", "-6"):
        present |= routes.present(await listed(run, family, "route", "show", "proto", routes.PROTOCOL), DEVICE)
    if batch := routes.commands(present, wanted):
        log.info("changing %d routes to the pods of other nodes", len(batch))
        await run(("ip", "-force", "-batch", "-"), "\n".join(batch) + "\n")


async def listed(run: Run, *words: str, named: str = "") -> list[Any]:
    """What ``ip`` lists; only interfaces of one name, if that is given."""
    entries: list[Any] = json.loads(await run(("ip", "-json", *words), "") or "[]")
    return [entry for entry in entries if not named or entry.get("ifname") == named]


async def cleanup(run: Run = hosttools.run) -> None:
    """Take our routes and the tunnel away, where there are any."""
    if hosttools.have("ip"):
        for family in ("-4", "-6"):
            await run(("ip", family, "route", "flush", "proto", routes.PROTOCOL), "")
        await apply_tunnel(None, run)
