"""What a document leaves to the machine and to chance: the node's name and address, the runtime's socket, a token.

``Host`` is what is asked of the machine, so that a test can say it. Source:
https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-init/
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys import KUBERNETES_VERSION
from tiphys.cluster.containerd import cgroup_version, systemd_is_init
from tiphys.cluster.kubeadm.configuration.validate import split_host_port
from tiphys.cluster.kubeadm.failures import ConfigurationError
from tiphys.cluster.tlsbootstrap import new_token
from tiphys.wire.hostaddress import host_address

Document = dict[str, Any]

CONTROL_PLANE_TAINT = {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}
DEFAULT_SOCKET = "unix:///run/containerd/containerd.sock"
SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
)
_LABELS = ("stable-1", "stable", "latest", "stable-1.36", "latest-1.36", "latest-1")


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine says of itself."""

    name: str
    address: str
    sockets: tuple[str, ...] = ()
    """The container runtimes that are there."""
    cgroup_driver: str = "systemd"
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def this(cls) -> Host:
        sockets = tuple(path for path in SOCKETS if Path(path).exists())
        driver = "systemd" if systemd_is_init() and cgroup_version() == 2 else "cgroupfs"
        return cls(socket.gethostname().strip().lower(), host_address() or "", sockets, driver)


def complete_init(init: Document, cluster: Document, host: Host) -> None:
    """Raises ``ConfigurationError``."""
    for entry in init["bootstrapTokens"]:
        entry["token"] = entry.get("token") or new_token()
    complete_registration(init["nodeRegistration"], host, control_plane=True)
    complete_endpoint(init["localAPIEndpoint"], host)
    complete_cluster(cluster, init["localAPIEndpoint"]["bindPort"])


def complete_cluster(cluster: Document, bind_port: int) -> None:
    cluster["kubernetesVersion"] = version(cluster["kubernetesVersion"])
    if endpoint := cluster.get("controlPlaneEndpoint"):
        host, port = split_host_port(endpoint)
        cluster["controlPlaneEndpoint"] = join_host_port(host, port or str(bind_port))
    if names := cluster["apiServer"].get("certSANs"):
        cluster["apiServer"]["certSANs"] = [name.lower() for name in names]


def complete_registration(node: Document, host: Host, *, control_plane: bool) -> None:
    """An empty list of taints means that none are wanted; an absent one leaves them to us."""
    node["name"] = (node.get("name") or host.name).strip().lower()
    if control_plane and node.get("taints") is None:
        node["taints"] = [dict(CONTROL_PLANE_TAINT)]
    node["criSocket"] = runtime_socket(node.get("criSocket", ""), host)


def runtime_socket(given: str, host: Host) -> str:
    """The runtime's socket as a URL: the given one, or the only one that is there."""
    if given:
        if not given.startswith("unix://") and given.startswith("/"):
            host.warnings.append(
                'Usage of CRI endpoints without URL scheme is deprecated. Automatically prepending scheme "unix" to'
                f' the "criSocket" with value "{given}". Please update your configuration!'
            )
            return f"unix://{given}"
        return given
    if len(host.sockets) > 1:
        listed = ", ".join(f"unix://{path}" for path in host.sockets)
        raise ConfigurationError(
            "found multiple CRI endpoints on the host. Please define which one do you wish to use by setting the "
            f"'criSocket' field in the kubeadm configuration file, or --cri-socket: {listed}"
        )
    return f"unix://{host.sockets[0]}" if host.sockets else DEFAULT_SOCKET


def complete_endpoint(endpoint: Document, host: Host) -> None:
    """The address that the API server is reached at: the given one, or that of the route to the outside."""
    given = endpoint.get("advertiseAddress", "")
    if given:
        try:
            address = ipaddress.ip_address(given)
        except ValueError:
            raise ConfigurationError(
                f'couldn\'t use "{given}" as "apiserver-advertise-address", must be ipv4 or ipv6 address'
            ) from None
        if not (address.is_unspecified or address.is_loopback):
            return
    if not host.address:
        raise ConfigurationError(
            "this machine has no address but loopback; name the one that other nodes reach it at: "
            "--apiserver-advertise-address"
        )
    endpoint["advertiseAddress"] = host.address


def version(given: str) -> str:
    """The version to install: Tiphys is one release, so that its own is the only one. Raises ``ConfigurationError``."""
    if given in _LABELS:
        return KUBERNETES_VERSION
    text = given if given.startswith("v") else f"v{given}"
    if text.rpartition(".")[0] != KUBERNETES_VERSION.rpartition(".")[0]:
        raise ConfigurationError(
            f"kubernetesVersion {given} is not supported: this Tiphys installs {KUBERNETES_VERSION}; leave the field "
            "(or --kubernetes-version) out, or install the Tiphys of that release"
        )
    return text


def join_host_port(host: str, port: str | int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
