"""`tiphys virtual-address`: one address that leads to a control plane that works, held by leader election.

Each control plane runs it beside its API server, which it asks for the Lease. Whoever holds that has the address on its
interface, and says so to its neighbours. The kernel takes the address away by itself a few seconds after the last
renewal: a holder that is killed, and even one whose machine hangs, does not answer for it beside the next. Source:
https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/, RFC 5227.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiphys.client.kubeconfig import connected
from tiphys.controlkit.elected import launch_elected
from tiphys.controlkit.leaderelection import LeaderElectionConfig, LeaderElector, own_identity
from tiphys.runtime.clock import Clock, SystemClock
from tiphys.runtime.component import CannotStart
from tiphys.runtime.flags import FlagParser
from tiphys.wire.link.sockets import say_who_has

log = logging.getLogger(__name__)

LEASE = "tiphys-virtual-address"
LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 4.0, 3.0, 1.0
VALID_SECONDS = 5
"""How long the kernel keeps the address without renewal."""


def parser() -> FlagParser:
    flags = FlagParser("virtual-address", "Hold one address among the control planes, for clients to reach them by.")
    flags.add_argument("--address", required=True, help="the address that clients use")
    flags.add_argument("--node-address", required=True, help="this node's address: its interface takes the other, too")
    flags.add_argument("--kubeconfig", required=True, help="how to reach this node's API server")
    flags.add_verbosity()
    return flags


def main(argv: Sequence[str]) -> int:
    """Run ``tiphys virtual-address``; returns the exit status: 1 when the Lease is lost, to be started again."""
    return launch_elected(parser(), argv, _run)


async def _run(flags: argparse.Namespace) -> None:
    address, prefix = parsed(flags.address)
    interface = await _interface_of(flags.node_address)
    config = LeaderElectionConfig(
        identity=own_identity(),
        name=LEASE,
        lease_duration=LEASE_SECONDS,
        renew_deadline=RENEW_SECONDS,
        retry_period=RETRY_SECONDS,
        release_on_cancel=True,
    )
    clock = SystemClock()
    async with connected(Path(flags.kubeconfig), "virtual-address") as client:
        holder = Holder(f"{address}/{prefix}", interface, clock)
        await LeaderElector(config, client, clock).run(holder.hold)


def parsed(text: str) -> tuple[str, int]:
    """An address and the length of its prefix, a host's own. Raises ``CannotStart``."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise CannotStart(f"--address {text} is not an IP address") from error
    return str(address), address.max_prefixlen


class Holder:
    """Has the address on the interface for as long as ``hold`` runs."""

    def __init__(self, address: str, interface: str, clock: Clock) -> None:
        self._address, self._interface, self._clock = address, interface, clock

    async def hold(self) -> None:
        """Keep the address valid, and announce it, until cancelled."""
        log.info("taking %s on %s", self._address, self._interface)
        try:
            while True:
                lifetime = ["valid_lft", str(VALID_SECONDS), "preferred_lft", str(VALID_SECONDS)]
                await ip("address", "replace", self._address, "dev", self._interface, *lifetime)
                # Neighbours may remember another.
                say_who_has(self._interface, [self._address.partition("/")[0]])
                await self._clock.sleep(RETRY_SECONDS)
        finally:
            log.info("leaving %s", self._address)
            with contextlib.suppress(CannotStart):  # the kernel takes it away soon
                await ip("address", "delete", self._address, "dev", self._interface)


async def _interface_of(address: str) -> str:
    """The interface with an address. Raises ``CannotStart``."""
    for link in await _links():
        if any(entry.get("local") == address for entry in link.get("addr_info", [])):
            return str(link["ifname"])
    raise CannotStart(
        f"--node-address {address} is on no interface of this machine; `ip address` lists those there are"
    )


async def _links() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(await ip("-json", "address", "show"))
    return listed


async def ip(*words: str) -> str:
    """What the program ip prints. Raises ``CannotStart``."""
    process = await asyncio.create_subprocess_exec(
        "ip", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise CannotStart(f"`ip {' '.join(words)}` failed: {errors.decode(errors='replace').strip()}")
    return output.decode()
