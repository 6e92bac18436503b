"""The further nodes of a cluster on this machine: which there are, and where each keeps its own files.

A further node has its own folder below the cluster's, laid out as the first node's, with a ``cluster.json`` of its
own: it holds the authority's certificate and its own credentials, and nothing of the control plane.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace

from tiphys.api.meta.addresspools import AddressPool
from tiphys.cluster import kubeconfig
from tiphys.cluster.settings import Settings, SettingsError, write_private

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_MAX = 63
_LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path (sun_path, less the zero at its end)."""


def further_nodes(cluster: Settings) -> dict[str, Settings]:
    """The settings of each further node, by name. Raises ``SettingsError`` for one whose file is damaged."""
    folder = cluster.data_dir / "nodes"
    if not folder.is_dir():
        return {}
    loaded = {entry.name: Settings.load(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return {name: settings for name, settings in loaded.items() if settings is not None}


def check_name(cluster: Settings, name: str, taken: Iterable[str]) -> None:
    """Raises ``SettingsError`` for what no new node can be called."""
    if len(name) > _NAME_MAX or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be a node's name: use up to {_NAME_MAX} lower-case letters, digits, '-' and '.', "
            "with a letter or digit at each end"
        )
    if name == cluster.node_name or name in taken:
        raise SettingsError(f"a node {name} exists already; see `tiphys node list`")


def free_address(cidr: str, taken: Iterable[str], pool: AddressPool | None = None) -> str:
    """The first address of a range of the nodes' that no node has, and no load balancer may have. Raises
    ``SettingsError`` if none is left."""
    used = set(taken)
    hosts = iter(ipaddress.ip_network(cidr).hosts())
    next(hosts)  # the bridge's
    free = (str(host) for host in hosts if str(host) not in used and (pool is None or str(host) not in pool))
    address = next(free, None)
    if address is None:
        raise SettingsError(f"{cidr} has no address left for another node; delete one")
    return address


def new_names(cluster: Settings, nodes: int, taken: Iterable[str]) -> list[str]:
    """Names for as many further nodes as are missing for ``nodes`` in all: ``node-2`` and on."""
    used = {cluster.node_name, *taken}
    names: list[str] = []
    number = 2
    while len(used) < nodes:
        if (name := f"node-{number}") not in used:
            names.append(name)
            used.add(name)
        number += 1
    return names


def define(cluster: Settings, name: str, taken: Iterable[Settings]) -> Settings:
    """The settings of a new node, not saved yet. Raises ``SettingsError``."""
    known = list(taken)
    check_name(cluster, name, [node.node_name for node in known])
    used = [address for node in known for address in node.node_ips]
    addresses = [free_address(cidr, used, cluster.address_pool) for cidr in cluster.node_cidrs]
    made = replace(
        cluster,
        data_dir=cluster.data_dir / "nodes" / name,
        run_dir=cluster.run_dir / "nodes" / name,
        node_name=name,
        node_ip=addresses[0],
        second_node_ip=addresses[1] if len(addresses) > 1 else "",
        joined=cluster.server,
    )
    if len(str(made.containerd_socket)) > _LONGEST_SOCKET:
        raise SettingsError(f"the path {made.containerd_socket} is too long for a socket; choose a shorter --run-dir")
    return made


def prepare(cluster: Settings, node: Settings) -> Settings:
    """Write what a node needs before it starts; gives its settings, which follow the API server's address."""
    from tiphys.cluster.credentials import USERS, ensure_kubeconfig
    from tiphys.cluster.pki import ensure_authority

    node = replace(
        node,
        joined=cluster.server,
        verbosity=cluster.verbosity,
        proxy_mode=cluster.proxy_mode,
        load_balancer_pool=cluster.load_balancer_pool,
        cloud_provider=cluster.cloud_provider,
    )
    node.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    node.pki.mkdir(exist_ok=True, mode=0o700)
    shutil.copyfile(cluster.pki / "ca.crt", node.pki / "ca.crt")
    authority = ensure_authority(cluster.pki, "ca", "kubernetes")
    for name in ("kube-proxy", "csi-local", "csi-cloud-node"):
        ensure_kubeconfig(node, name, *USERS[name], authority)
    kubeconfig.point_at(node.kubeconfig("kubelet"), node.server)
    node.save()
    return node


def write_bootstrap(node: Settings, token: str) -> None:
    """The kubeconfig with which a node asks for its certificate."""
    config = kubeconfig.make_with_token(node.cluster_name, node.server, node.pki / "ca.crt", "kubelet-bootstrap", token)
    write_private(node.kubeconfig("bootstrap-kubelet"), kubeconfig.dump(config))


def short(name: str) -> str:
    """Eight characters that stand for a name where an interface's 15 are too few for it."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]
