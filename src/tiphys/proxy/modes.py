"""The ways in which packets get to endpoints: which one works here, and how one cleans up after the others.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-modes
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from typing import Literal

from tiphys.proxy import nft
from tiphys.proxy.iptables import backend as iptables
from tiphys.proxy.state import Family
from tiphys.proxy.userspace import backend as userspace
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

Mode = Literal["", "nftables", "iptables", "userspace"]
"""Empty: what works here."""

LocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]
"""How the proxy recognizes what pods send."""


async def choose(wanted: Mode, run: Run) -> Mode:
    """The mode to proxy by: without a wish nftables, iptables or userspace, whichever first works here."""
    if wanted:
        return wanted
    if await nft.available(run):
        return "nftables"
    return "iptables" if await iptables.available(run) else "userspace"


async def clean_up_others(mode: Mode, families: Sequence[Family], run: Run) -> None:
    """Remove what a proxy of another mode left on this node. What cannot be removed is logged."""
    removals = {"nftables": nft.cleanup, "iptables": iptables.cleanup, "userspace": userspace.cleanup}
    for other in removals:
        for family in families if other != mode else ():
            try:
                await removals[other](family, run)
            except CommandError as error:
                log.debug("nothing of mode %s to remove for %s: %s", other, family, error)


def pod_match(mode: Mode, family: Family, how: tuple[LocalMode, str], ranges: Sequence[str]) -> tuple[str, str]:
    """Matches for packets of pods, and for all others, as the mode's rules write them; empty if it is not known.

    ``how`` is the way of recognizing pods with the name of the interface, if it goes by one.
    """
    local_mode, interface = how
    if local_mode in ("BridgeInterface", "InterfaceNamePrefix"):
        prefix = local_mode == "InterfaceNamePrefix"
        if mode == "iptables":
            name = f"{interface}+" if prefix else interface
            return f"-i {name}", f"! -i {name}"
        name = f'iifname{{}} "{interface}*"' if prefix else f'iif{{}} "{interface}"'
        return name.format(""), name.format(" !=")
    if not ranges:
        return "", ""
    cidrs = [str(ipaddress.ip_network(cidr, strict=False)) for cidr in ranges]
    if mode == "iptables":
        return f"-s {cidrs[0]}", f"! -s {cidrs[0]}"
    return f"{family} saddr {{ {', '.join(cidrs)} }}", f"{family} saddr != {{ {', '.join(cidrs)} }}"
