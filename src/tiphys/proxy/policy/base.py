"""The fixed part of the table of network policies: its hooks, and what they look at first (pure).

A packet has to be let through by its sender's policies, and then by its receiver's. Every packet of a connection's
initiator is looked at, and not only the first: so a policy takes effect on connections that are established, which
end as nothing of the initiator's arrives any more. Answers pass, and errors about a connection (``related``).

Packets that the node itself sends do not pass these hooks, and are let through as the specification has it. What a pod
sends to its own node is the pod's egress as any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.proxy.policy.names import MAPS, SELF, TABLE
from tiphys.proxy.state import Family

HOOKS = (
    ("forward-egress", "forward", -2, "egress"),
    ("input-egress", "input", -2, "egress"),
    ("forward-ingress", "forward", -1, "ingress"),
)
"""Chain, hook, priority, direction."""


def base(family: Family, open_addresses: Sequence[str]) -> list[str]:
    """Commands that make the table's fixed part in an empty table."""
    name = f"{family} {TABLE}"
    address = "ipv4_addr" if family == "ip" else "ipv6_addr"
    lines = [f"add set {name} {SELF} {{ type {address} . {address}; }}"]
    lines += [f"add map {name} {container} {{ type {address} : verdict; }}" for container in MAPS.values()]
    passing = [
        "ct state related accept",
        "ct state established ct direction reply accept",
        f"{family} saddr . {family} daddr @{SELF} accept",
    ]
    if family == "ip6":
        passing.insert(0, "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept")
    opened = [f"ct original {family} daddr {{ {', '.join(open_addresses)} }} accept"] if open_addresses else []
    for chain, hook, priority, direction in HOOKS:
        side, more = ("saddr", opened) if direction == "egress" else ("daddr", [])
        lines.append(f"add chain {name} {chain} {{ type filter hook {hook} priority {priority}; policy accept; }}")
        lines += [f"add rule {name} {chain} {rule}" for rule in (*passing, *more)]
        lines.append(f"add rule {name} {chain} {family} {side} vmap @{direction}-pods")
    return lines
