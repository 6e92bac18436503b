"""The wire between the nodes of one machine: a bridge, and for each further node a network namespace with a veth to it.

The machine itself is the first node and the bridge's first address, so further nodes reach it, and through it the
world, by their default route. All is made by ``ensure`` as often as it is requested, and gone with ``remove``.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tiphys.cluster.containerd import masquerade_table
from tiphys.cluster.nodes import short
from tiphys.cluster.settings import Settings, SettingsError
from tiphys.proxy.podnetwork.overlay import hardware
from tiphys.proxy.state import Family

_CLONE_NEWNET = 0x40000000
_CLONE_NEWUTS = 0x04000000
_NAMESPACES = Path("/run/netns")
_FORWARDING: dict[Family, Path] = {
    "ip": Path("/proc/sys/net/ipv4/ip_forward"),
    "ip6": Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


class NodeNetworkError(Exception):
    """The network of the nodes cannot be made or changed; the message is what the tool said."""


def bridge_name(cluster: Settings) -> str:
    """The nodes' bridge: the pods' with an ``n``, where 15 characters hold it."""
    name = f"{cluster.bridge}n"
    return name if len(name) <= 15 else f"br{short(cluster.bridge)}n"


def namespace(cluster: Settings, name: str) -> str:
    return f"{cluster.bridge}-{name}"


def port(cluster: Settings, name: str) -> str:
    """The machine's end of a node's wire."""
    return f"tn{short(namespace(cluster, name))}"


def cgroup_root(node: Settings) -> str:
    """The top of the cgroups of a further node's pods: other kubelets on the machine have theirs beside it."""
    return namespace(node, node.node_name)


def gateways(cluster: Settings) -> list[str]:
    """The bridge's addresses, one of each IP family."""
    return [str(ipaddress.ip_network(cidr)[1]) for cidr in cluster.node_cidrs]


def ensure_bridge(cluster: Settings) -> None:
    """Make the bridge with its address, and let nodes reach the world by this machine's address."""
    name = bridge_name(cluster)
    if not _exists(name):
        _refuse_taken_range(cluster)
        _ip(f"link add {name} type bridge")
    _ip(
        f"link set {name} address {hardware(name)}",
        *(_address(cluster, address, name) for address in gateways(cluster)),
        f"link set {name} up",
        *own_routes(cluster, name),
    )
    _nft(masquerade_rules(cluster))
    for family in families(cluster):
        _FORWARDING[family].write_text("1")


def families(cluster: Settings) -> list[Family]:
    """The IP families of the nodes' wire."""
    return ["ip6" if ":" in cidr else "ip" for cidr in cluster.node_cidrs]


def own_routes(cluster: Settings, bridge: str) -> list[str]:
    """Commands by which this machine speaks to further nodes with its node's address, and not with the bridge's: others
    know it by that, and policies and services see who asks."""
    commands = []
    for cidr in cluster.node_cidrs:
        for address in cluster.node_ips:
            if (":" in address) == (":" in cidr):
                first = "metric 128" if ":" in cidr else "scope link"
                commands.append(f"route replace {cidr} dev {bridge} src {address} {first}")
    return commands


def masquerade_rules(cluster: Settings) -> str:
    """What nodes send to the outside carries this machine's address; what they send to each other is none of this
    machine's business. The kernel shows it such frames too (br_netfilter, which pods' bridges need), and its rules for
    Services would rewrite or drop what is for another node: not what is not tracked."""
    inside, name = (*cluster.node_cidrs, *cluster.pod_cidrs), bridge_name(cluster)
    rules = []
    for cidr, family in zip(cluster.node_cidrs, families(cluster), strict=True):
        rules += [
            masquerade_table(_table(cluster), cidr, inside),
            f"table {family} {_table(cluster)} {{\n  chain wire {{\n"
            "    type filter hook prerouting priority raw; policy accept;\n"
            f'    iifname "{name}" ether daddr != {hardware(name)} notrack\n  }}\n}}\n',
        ]
    return "".join(rules)


def ensure(cluster: Settings, node: Settings) -> None:
    """Make a node's namespace and its wire to the bridge. Raises ``NodeNetworkError``."""
    ensure_bridge(cluster)
    inside, outer = namespace(cluster, node.node_name), port(cluster, node.node_name)
    if not (_NAMESPACES / inside).exists():
        _run(["ip", "netns", "add", inside])
    if not _exists(outer):
        _ip(f"link add {outer} type veth peer name eth0 netns {inside}")
    # Hairpin: what a node sends to a Service at this machine may be for a pod of its own, and return as it came.
    _ip(f"link set {outer} master {bridge_name(cluster)} up", f"link set {outer} type bridge_slave hairpin on")
    _ip(
        "link set lo up",
        *(_address(cluster, address, "eth0") for address in node.node_ips),
        "link set eth0 up",
        *(f"route replace default via {gateway} dev eth0" for gateway in gateways(cluster)),
        within=inside,
    )


def _address(cluster: Settings, address: str, device: str) -> str:
    """The command that puts an address of the nodes' range on a device; it is ours alone, and can be used at once."""
    ours = next(cidr for cidr in cluster.node_cidrs if (":" in cidr) == (":" in address))
    once = " nodad" if ":" in address else ""
    return f"address replace {address}/{ipaddress.ip_network(ours).prefixlen} dev {device}{once}"


def remove(cluster: Settings, name: str) -> list[str]:
    """Remove a node's namespace, and with it its interfaces, routes and rules; returns what could not be done."""
    try:
        if _exists(port(cluster, name)):
            _ip(f"link delete {port(cluster, name)}")
        if (_NAMESPACES / namespace(cluster, name)).exists():
            _run(["ip", "netns", "delete", namespace(cluster, name)])
    except NodeNetworkError as error:
        return [f"cannot remove the network of node {name}: {error}"]
    return []


def remove_bridge(cluster: Settings) -> list[str]:
    """Remove the bridge and the rules of ``ensure_bridge``, where they are; returns what could not be done."""
    try:
        if _exists(bridge_name(cluster)):
            _ip(f"link delete {bridge_name(cluster)}")
        for family in families(cluster):
            _nft(f"table {family} {_table(cluster)}\ndelete table {family} {_table(cluster)}\n")
    except NodeNetworkError as error:
        return [f"cannot remove the network of the nodes: {error}"]
    return []


def exists(cluster: Settings, name: str) -> bool:
    """Whether a node has its namespace: not before its first start, and not after the machine's."""
    return (_NAMESPACES / namespace(cluster, name)).exists()


def set_partitioned(cluster: Settings, name: str, *, cut: bool) -> None:
    """Let the bridge drop every frame from and to a node, as a cable that is cut between switches does, or carry them
    again. The node's own end stays up. Raises ``NodeNetworkError``."""
    state = "disabled" if cut else "forwarding"
    _run(["bridge", "link", "set", "dev", port(cluster, name), "state", state])


def is_partitioned(cluster: Settings, name: str) -> bool:
    """Whether the bridge drops a node's frames now."""
    if not _exists(port(cluster, name)):
        return False
    listed = json.loads(_run(["bridge", "-json", "link", "show", "dev", port(cluster, name)]) or "[]")
    return any(entry.get("state") == "disabled" for entry in listed)


def enter(cluster: Settings, name: str) -> None:
    """Move this process, which must have one thread, into a node's network namespace, and let the node's name be its
    host's: containers on the node's own network have that. Raises ``OSError``."""
    with (_NAMESPACES / namespace(cluster, name)).open() as handle:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network of node {name}")
    if libc.unshare(_CLONE_NEWUTS) != 0:
        raise OSError(ctypes.get_errno(), f"cannot name the host of node {name}")
    socket.sethostname(name)


def _refuse_taken_range(cluster: Settings) -> None:
    """Raises ``SettingsError`` if the machine has a route to the nodes' range already."""
    for cidr in cluster.node_cidrs:
        ours = ipaddress.ip_network(cidr)
        for route in json.loads(_run(["ip", "-json", f"-{ours.version}", "route", "show"]) or "[]"):
            if route["dst"] == "default":
                continue
            if ours.overlaps(ipaddress.ip_network(route["dst"], strict=False)):
                raise SettingsError(
                    f"this machine has a route to {route['dst']} already, which overlaps the nodes' addresses "
                    f"{cidr}; choose others with `tiphys up --node-cidr`"
                )


def _table(cluster: Settings) -> str:
    return "tiphys_nodes_" + "".join(c if c.isalnum() else "_" for c in cluster.bridge)


def _exists(interface: str) -> bool:
    done = subprocess.run(["ip", "link", "show", "dev", interface], capture_output=True, check=False)
    return done.returncode == 0


def _ip(*commands: str, within: str = "") -> None:
    """Run a few commands of ``ip`` in one process, in a namespace if one is named."""
    _run(["ip", *(["-n", within] if within else []), "-batch", "-"], "\n".join(commands) + "\n")


def _nft(rules: str) -> None:
    _run(["nft", "-f", "-"], rules)


def _run(argv: Sequence[str], text: str = "") -> str:
    done = subprocess.run(
        argv, input=text, text=True, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode != 0:
        raise NodeNetworkError(f"{' '.join(argv[:4])}: {done.stderr.strip()}")
    return done.stdout
