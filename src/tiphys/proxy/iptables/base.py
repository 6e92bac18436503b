"""The fixed part of the tables as lines of iptables-restore (pure): where our chains are jumped to, masquerading, and
what is let through.

The jumps stand first in the built-in chains, so that other software's rules find their place around ours. Source:
https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.proxy.iptables import names, rules
from tiphys.proxy.rules import Options

_NEW = "-m conntrack --ctstate NEW "
_BALANCED = "kubernetes load balancer firewall"
_EXTERNAL = "kubernetes externally-visible service portals"
_PORTALS = "kubernetes service portals"


@dataclass(frozen=True, slots=True)
class Jump:
    """A rule of a built-in chain that leads to one of ours."""

    table: str
    source: str
    target: str
    match: str
    comment: str

    @property
    def rule(self) -> str:
        return f'{self.source} {self.match}-m comment --comment "{self.comment}" -j {self.target}'


JUMPS = (
    Jump("filter", "INPUT", names.EXTERNAL, _NEW, _EXTERNAL),
    Jump("filter", "FORWARD", names.EXTERNAL, _NEW, _EXTERNAL),
    Jump("filter", "INPUT", names.NODE_PORTS, "", "kubernetes health check service ports"),
    Jump("filter", "FORWARD", names.SERVICES, _NEW, _PORTALS),
    Jump("filter", "OUTPUT", names.SERVICES, _NEW, _PORTALS),
    Jump("filter", "FORWARD", names.FORWARD, "", "kubernetes forwarding rules"),
    Jump("filter", "INPUT", names.PROXY_FIREWALL, _NEW, _BALANCED),
    Jump("filter", "OUTPUT", names.PROXY_FIREWALL, _NEW, _BALANCED),
    Jump("filter", "FORWARD", names.PROXY_FIREWALL, _NEW, _BALANCED),
    Jump("filter", "INPUT", names.FIREWALL, "", "kubernetes local redirects"),
    Jump("nat", "OUTPUT", names.SERVICES, "", _PORTALS),
    Jump("nat", "PREROUTING", names.SERVICES, "", _PORTALS),
    Jump("nat", "POSTROUTING", names.POSTROUTING, "", "kubernetes postrouting rules"),
)
"""Each is put first in its chain, so the last one listed is the first to be met."""


def before(chain: rules.Chain, options: Options) -> list[str]:
    """The rules of a fixed chain that come before those of services."""
    mark = f"{options.masquerade_mark:#x}"
    marked = f"{mark}/{mark}"
    fixed = {
        ("nat", names.MARK_MASQ): [f"-j MARK --or-mark {mark}"],
        ("nat", names.POSTROUTING): [
            f"-m mark ! --mark {marked} -j RETURN",
            # Packets may be seen again, as those of a tunnel are: they must not be masqueraded twice.
            f"-j MARK --xor-mark {mark}",
            "-j MASQUERADE --random-fully",
        ],
        ("filter", names.FORWARD): [
            "-m conntrack --ctstate INVALID -j DROP",
            f"-m mark --mark {marked} -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ],
    }
    if options.localhost_node_ports:
        # route_localnet lets packets for 127.0.0.0/8 in from the wire; only those that we redirect may use it.
        known = "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT"
        fixed["filter", names.FIREWALL] = [f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {known} -j DROP"]
    return fixed.get(chain, [])


def after(chain: rules.Chain, options: Options) -> list[str]:
    """The rules of a fixed chain that come after those of services: NodePorts last, as any address may be meant."""
    if chain != rules.NAT_SERVICES:
        return []
    local = "-m addrtype --dst-type LOCAL"
    if not options.localhost_node_ports:
        local += " ! -d 127.0.0.0/8" if options.family == "ip" else " ! -d ::1/128"
    places = [f"-d {cidr} " for cidr in options.node_port_ranges] or [""]
    return [f"{place}{local} -j {names.NODE_PORTS}" for place in places]
