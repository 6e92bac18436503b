"""The fixed part of the table as nftables text (pure): base chains, dispatch, masquerading, refusals.

The priorities are dstnat (-100), filter (0) and srcnat (100) by number, as nft takes the names only for some hooks.
They are those of upstream's nftables mode, so that other software's tables find their place around ours
(https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-nftables).
"""

from __future__ import annotations

from tiphys.proxy import rules
from tiphys.proxy.rules import Options

TABLE = "tiphys"

BASE_CHAINS = {
    "filter-prerouting-pre-dnat": "type filter hook prerouting priority -110",
    "filter-output-pre-dnat": "type filter hook output priority -110",
    "filter-input": "type filter hook input priority 0",
    "filter-forward": "type filter hook forward priority 0",
    "filter-output": "type filter hook output priority 0",
    "nat-prerouting": "type nat hook prerouting priority -100",
    "nat-output": "type nat hook output priority -100",
    "nat-postrouting": "type nat hook postrouting priority 100",
}

PROTOCOLS = ("tcp", "udp", "sctp")
MAPS = (rules.SERVICE_IPS, rules.NODE_PORTS, rules.NO_ENDPOINT_IPS, rules.NO_ENDPOINT_NODE_PORTS, rules.FIREWALL_IPS)


def table(options: Options) -> list[str]:
    """Commands that rebuild the table's fixed part, whatever was there; sets and maps are empty afterwards.

    The chains of services are left alone: the caller fills them in the same transaction.
    """
    name = f"{options.family} {TABLE}"
    lines = [f"add table {name}"]
    for chain, hook in BASE_CHAINS.items():
        # Added and deleted first: a base chain's hook and priority cannot be changed.
        lines += [f"add chain {name} {chain}", f"delete chain {name} {chain}"]
        lines.append(f"add chain {name} {chain} {{ {hook}; }}")
    for kind, container, type_ in _containers(options):
        lines += [f"add {kind} {name} {container} {{ {type_}; }}", f"flush {kind} {name} {container}"]
    chains = _chains(options)
    for chain in chains:
        lines += [f"add chain {name} {chain}", f"flush chain {name} {chain}"]
    for chain, content in (*chains.items(), *_base_rules(options).items()):
        lines += [f"add rule {name} {chain} {rule}" for rule in content]
    return lines


def _containers(options: Options) -> list[tuple[str, str, str]]:
    address = "ipv4_addr" if options.family == "ip" else "ipv6_addr"
    destination = f"type {address} . inet_proto . inet_service : verdict"
    port = "type inet_proto . inet_service : verdict"
    by_port = {rules.NODE_PORTS, rules.NO_ENDPOINT_NODE_PORTS}
    containers = [("map", name, port if name in by_port else destination) for name in MAPS]
    for protocol in PROTOCOLS:
        # A choice is a number for which nft has no type's name, only that of an expression; the modulus is any.
        key, endpoint = rules.choice(options.family, protocol, 2), f"{options.family} daddr . {protocol} dport"
        containers.append(("map", rules.choices(protocol), f"typeof {key} : {endpoint}"))
    containers.append(("set", rules.CLUSTER_IPS, f"type {address}"))
    containers.append(("set", rules.HAIRPIN, f"type {address} . {address} . inet_proto . inet_service"))
    return containers


def _base_rules(options: Options) -> dict[str, list[str]]:
    """What each hook does, in order."""
    chains = {
        "filter-prerouting-pre-dnat": ["ct state new jump firewall-check"],
        "filter-output-pre-dnat": ["ct state new jump firewall-check"],
        "filter-input": ["ct state new jump nodeport-endpoints-check", "ct state new jump service-endpoints-check"],
        "filter-forward": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
        "filter-output": ["ct state new jump service-endpoints-check", "ct state new jump cluster-ips-check"],
        "nat-prerouting": ["jump services"],
        "nat-output": ["jump services"],
        "nat-postrouting": ["jump masquerading"],
    }
    if options.localhost_node_ports:
        # route_localnet lets packets for 127.0.0.0/8 in from the wire; only those that we redirect may use it. Answers
        # to redirected connections still carry the node's own address here, ahead of connection tracking's rewrite.
        chains["filter-prerouting-pre-dnat"].insert(0, 'iif != "lo" ip daddr 127.0.0.0/8 drop')
    return chains


def _chains(options: Options) -> dict[str, list[str]]:
    """The chains that do not depend on services, as lists of rules."""
    ip = options.family
    destination = f"{ip} daddr . meta l4proto . th dport vmap"
    mark = f"{options.masquerade_mark:#x}"
    services = [f"{destination} @{rules.SERVICE_IPS}"]
    if options.masquerade_all:
        services.insert(0, f"{ip} daddr @{rules.CLUSTER_IPS} {options.mark}")
    elif options.not_from_pod:
        services.insert(0, f"{ip} daddr @{rules.CLUSTER_IPS} {options.not_from_pod} {options.mark}")
    services.append(f"{_node_addresses(options)} meta l4proto . th dport vmap @{rules.NODE_PORTS}")
    unknown = [f"{ip} daddr @{rules.CLUSTER_IPS} reject"]
    if options.service_ranges:
        unknown.append(f"{ip} daddr {{ {', '.join(options.service_ranges)} }} drop")
    return {
        "reject-chain": ["reject"],
        "services": services,
        "masquerading": [
            f"mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random",
            f"ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @{rules.HAIRPIN} "
            "masquerade fully-random",
        ],
        "service-endpoints-check": [f"{destination} @{rules.NO_ENDPOINT_IPS}"],
        "nodeport-endpoints-check": [
            f"{_node_addresses(options)} meta l4proto . th dport vmap @{rules.NO_ENDPOINT_NODE_PORTS}"
        ],
        "firewall-check": [f"{destination} @{rules.FIREWALL_IPS}"],
        "cluster-ips-check": unknown,
    }


def _node_addresses(options: Options) -> str:
    """A match for the node's own addresses that take NodePort traffic."""
    match = "fib daddr type local"
    if options.node_port_ranges:
        match += f" {options.family} daddr {{ {', '.join(options.node_port_ranges)} }}"
    if options.localhost_node_ports:
        return match
    return f"{match} ip daddr != 127.0.0.0/8" if options.family == "ip" else f"{match} ip6 daddr != ::1"
