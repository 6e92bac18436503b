"""Lets service and pod traffic pass if the host's firewall drops what is forwarded, as Docker's set-up does.

An accepting rule in a table of our own would not do: every table has its say, and one drop is enough. So the accepting
rules go where the policy is, into a chain of ours that the filter table's FORWARD chain visits first.

Source: https://docs.docker.com/engine/network/packet-filtering-firewalls/
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tiphys.proxy.state import Family
from tiphys.runtime.system import hosttools
from tiphys.runtime.system.hosttools import CommandError, Run

log = logging.getLogger(__name__)

CHAIN = "TIPHYS-FORWARD"
_TOOL = {"ip": "iptables", "ip6": "ip6tables"}


def accepting_rules(mark: int, pod_ranges: Sequence[str]) -> str:
    """Input of iptables-restore that fills the chain."""
    lines = [
        f"-A {CHAIN} -m mark --mark {mark:#x}/{mark:#x} -j ACCEPT",
        f"-A {CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT",
    ]
    for cidr in pod_ranges:
        lines += [f"-A {CHAIN} -s {cidr} -j ACCEPT", f"-A {CHAIN} -d {cidr} -j ACCEPT"]
    return "\n".join(["*filter", f":{CHAIN} - [0:0]", *lines, "COMMIT", ""])


async def ensure(family: Family, mark: int, pod_ranges: Sequence[str], run: Run = hosttools.run) -> None:
    """Put the rules in if the policy is DROP and they are missing."""
    tool = _TOOL[family]
    if not hosttools.have(tool):
        return
    listing = (await run((tool, "-w", "5", "-S", "FORWARD"), "")).splitlines()
    if "-P FORWARD DROP" not in listing or f"-A FORWARD -j {CHAIN}" in listing:
        return
    log.info("the policy of %s FORWARD is DROP; accepting service and pod traffic ahead of it", tool)
    await run((f"{tool}-restore", "-w", "5", "--noflush"), accepting_rules(mark, pod_ranges))
    await run((tool, "-w", "5", "-I", "FORWARD", "1", "-j", CHAIN), "")


async def cleanup(family: Family, run: Run = hosttools.run) -> None:
    """Take the rules out, if they are in."""
    tool = _TOOL[family]
    if not hosttools.have(tool):
        return
    try:
        listing = (await run((tool, "-w", "5", "-S"), "")).splitlines()
    except CommandError as error:
        log.debug("no %s here: %s", tool, error)
        return
    if f"-A FORWARD -j {CHAIN}" in listing:
        await run((tool, "-w", "5", "-D", "FORWARD", "-j", CHAIN), "")
    if f"-N {CHAIN}" in listing:
        await run((tool, "-w", "5", "-F", CHAIN), "")
        await run((tool, "-w", "5", "-X", CHAIN), "")
