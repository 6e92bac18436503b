"""Gives the node's own processes a way to service addresses if the machine has no default route.

The kernel looks for a route before it lets rules rewrite the destination: without one, a process on the node gets
an error, "network is unreachable". Any route will do, as the packet is routed again once it has its endpoint's address.
Packets from pods are rewritten before they are routed, and need nothing of the kind.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable

from tiphys.proxy.state import Family
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

PROTOCOL = "84"
"""Marks our routes among the kernel's (RTA_PROTOCOL), so that they can be found again."""

_OPTION = {"ip": "-4", "ip6": "-6"}


async def ensure(family: Family, ranges: Iterable[str], source: str, run: Run = hosttools.run) -> None:
    """Add a route for each range that has none. ``source`` is the node's address, which such packets come from."""
    for cidr in ranges:
        first = str(ipaddress.ip_network(cidr)[1])
        try:
            await run(("ip", _OPTION[family], "route", "get", first), "")
        except CommandError as missing:
            if "nreachable" not in str(missing):
                raise
            log.info("no route leads to %s; adding one", cidr)
            origin = ("src", source) if source else ()
            route = ("ip", _OPTION[family], "route", "replace", cidr, "dev", "lo", "proto", PROTOCOL, *origin)
            await run(route, "")


async def cleanup(family: Family, run: Run = hosttools.run) -> None:
    """Take our routes away, if there are any."""
    if hosttools.have("ip"):
        await run(("ip", _OPTION[family], "route", "flush", "proto", PROTOCOL), "")
