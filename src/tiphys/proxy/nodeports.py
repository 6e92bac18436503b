"""Which of a node's addresses take NodePort traffic (``nodePortAddresses``), and health checks of node ports.

Source: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence

from tiphys.proxy.state import Family
from tiphys.proxy.tracker import is_family
from tiphys.runtime.system.hosttools import Run

PRIMARY = "primary"
"""Stands alone for the addresses of the node's Node, one of each family."""

Hosts = Callable[[], Awaitable[Sequence[str]]]
"""Where to listen for all traffic of node ports."""

_HOST = {"ip": 32, "ip6": 128}


def ranges(given: Sequence[str], family: Family, node_ips: Iterable[str]) -> tuple[str, ...]:
    """The ranges of one family; empty means all of the node's addresses."""
    if tuple(given) == (PRIMARY,):
        first = next((ip for ip in node_ips if is_family(ip, family)), None)
        return () if first is None else (f"{first}/{_HOST[family]}",)
    own = tuple(cidr for cidr in given if is_family(cidr, family))
    return () if any(ipaddress.ip_network(cidr, strict=False).prefixlen == 0 for cidr in own) else own


def everywhere(family: Family) -> str:
    return "0.0.0.0" if family == "ip" else "::"


async def hosts(of: Sequence[str], family: Family, run: Run) -> Sequence[str]:
    """The machine's addresses within ranges, or the one that stands for all. Raises ``CommandError``."""
    if not of:
        return [everywhere(family)]
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in of]
    links = json.loads(await run(("ip", "-j", "-4" if family == "ip" else "-6", "addr", "show"), "") or "[]")
    local = {entry["local"] for link in links for entry in link.get("addr_info", ()) if "local" in entry}
    return sorted(text for text in local if any(ipaddress.ip_address(text) in network for network in networks))
