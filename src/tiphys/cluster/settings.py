"""What one cluster on one machine is: its directories, addresses and names. Written once, by the first ``up``.

The names and defaults are kubeadm's if it has them
(https://kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4/).
"""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tiphys.api.meta.addresspools import AddressPool, parse_pool

DATA_DIR = Path(os.environ.get("TIPHYS_DATA_DIR") or "/var/lib/tiphys")
"""The variable is set for a cluster of an ordinary user (``cli.rootless``)."""
RUN_DIR = Path("/run/tiphys")


class SettingsError(Exception):
    """A setting that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``data_dir`` is kept over reboots, ``run_dir`` (sockets, state of processes) is not."""

    data_dir: Path = DATA_DIR
    run_dir: Path = RUN_DIR
    node_name: str = "localhost"
    node_ip: str = "127.0.0.1"
    second_node_ip: str = ""
    """The node's address of the other IP family, in a cluster of two families."""
    port: int = 6443
    etcd_port: int = 2379
    kubelet_port: int = 10250
    dns_port: int = 10053
    service_cidr: str = "10.96.0.0/16"
    """65,000 Services; kubeadm takes a /12, which more often meets networks of the user's. With two IP families two
    ranges, with a comma between them; the first is that of Services that do not say."""
    pod_cidr: str = "10.244.0.0/16"
    node_cidr: str = "10.243.0.0/24"
    """The wire between this machine and its further nodes: the bridge has the first address, of each family."""
    cluster_domain: str = "cluster.local"
    cluster_name: str = "tiphys"
    bridge: str = "tiphys0"
    proxy_mode: str = ""
    """kube-proxy's mode; empty for what works on the node."""
    load_balancer_pool: str = "node"
    """Which addresses Services of type LoadBalancer get: ranges, ``node`` for those of the nodes, or ``none``."""
    cloud_provider: str = ""
    """Whose machines the nodes are: ``local`` for this machine as a cloud; empty for nobody's."""
    api_workers: int = 1
    """Processes of the API server."""
    verbosity: int = 0
    metrics_port: int = 4443
    without: str = ""
    """Components that are left out, separated by commas: somebody else runs them."""
    addons: str = ""
    """Add-ons, separated by commas: in pods, or as processes of the first node."""
    autoscaler_nodes: str = "0:3"
    """How many nodes the add-on ``autoscaler`` may have made: MIN:MAX."""
    autoscaler_idle: str = "10m"
    """How long a node is empty before it removes it."""
    backup_to: str = ""
    """Where backups are made by a schedule: a folder or ``s3://BUCKET/PREFIX``; empty for none."""
    backup_every: str = "6h"
    backup_keep: int = 28
    joined: str = ""
    """URL of the API server that a further node reports to; empty for the first node, which runs it."""

    @property
    def any_address(self) -> str:
        """What the node's servers listen on to be reached by each of its addresses."""
        return "::" if any(":" in ip for ip in self.node_ips) else "0.0.0.0"

    @property
    def pki(self) -> Path:
        return self.data_dir / "pki"

    @property
    def store(self) -> Path:
        return self.data_dir / "etcd"

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    @property
    def kubelet_dir(self) -> Path:
        return self.data_dir / "kubelet"

    @property
    def volumes(self) -> Path:
        """Where the node's own volumes are kept: what claims of the StorageClass ``local`` hold."""
        return self.data_dir / "volumes"

    @property
    def containerd_root(self) -> Path:
        return self.data_dir / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.run_dir / "containerd.sock"

    @property
    def imported_images(self) -> Path:
        """The names of the images that were put on all nodes, as JSON, for nodes that come later."""
        return self.data_dir / "images.json"

    @property
    def ingress_dir(self) -> Path:
        """The files of the ingress proxy, private keys among them."""
        return self.data_dir / "ingress"

    @property
    def workers_dir(self) -> Path:
        """Where the processes of the API server meet, if there are several."""
        return self.run_dir / "kube-apiserver"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of its processes, as JSON."""
        return self.run_dir / "state.json"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor for as long as it lives; contains its process id."""
        return self.run_dir / "supervisor.pid"

    @property
    def server(self) -> str:
        return self.joined or f"https://{_bracketed(self.node_ip)}:{self.port}"

    @property
    def node_ips(self) -> tuple[str, ...]:
        return (self.node_ip, self.second_node_ip) if self.second_node_ip else (self.node_ip,)

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        return split(self.service_cidr)

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        return split(self.pod_cidr)

    @property
    def node_cidrs(self) -> tuple[str, ...]:
        return split(self.node_cidr)

    @property
    def address_pool(self) -> AddressPool | None:
        """The addresses for Services of type LoadBalancer; None if they get those of the nodes, or none. Raises
        ``SettingsError``."""
        if self.load_balancer_pool in ("node", "none"):
            return None
        try:
            return parse_pool(self.load_balancer_pool)
        except ValueError as error:
            raise SettingsError(
                f"--load-balancer-pool={self.load_balancer_pool}: {error}; name ranges with commas between, or node"
                " for the nodes' own addresses, or none"
            ) from error

    @property
    def announces_addresses(self) -> bool:
        """Whether the nodes answer for addresses of load balancers; a cloud does so itself."""
        return self.address_pool is not None and not self.cloud_provider

    @property
    def cloud_config(self) -> Path:
        """The file of ``--cloud-config`` by which the cloud's parts know this cluster."""
        return self.data_dir / "cloud.json"

    @property
    def reserved_ports(self) -> dict[int, str]:
        """Ports of the nodes' addresses that no load balancer gets, as their traffic is the cluster's and its
        administrator's, each with what it is for."""
        return {
            22: "ssh",
            self.port: "the API server",
            self.kubelet_port: "the kubelet",
            self.etcd_port: "the store",
            self.dns_port: "the cluster's DNS",
            self.metrics_port: "the metrics server",
            10256: "the proxy's health",
        }

    @property
    def kubernetes_ip(self) -> str:
        """The ClusterIP of the Service ``kubernetes``: the first address of the first range."""
        return network_address(self.service_cidrs[0], 1)

    @property
    def dns_ip(self) -> str:
        """The ClusterIP of the Service ``kube-dns``: the tenth address, by convention."""
        return network_address(self.service_cidrs[0], 10)

    @property
    def node_pod_cidrs(self) -> tuple[str, ...]:
        """The addresses of this node's pods: the first block of each of the cluster's ranges, which the first node is
        given."""
        return tuple(map(_first_block, self.pod_cidrs))

    def kubeconfig(self, name: str) -> Path:
        """``name`` is one of ``credentials.USERS``, ``kubelet`` or ``bootstrap-kubelet``."""
        return self.data_dir / f"{name}.conf"

    def write_cloud_config(self) -> None:
        """What the cloud's parts read of this cluster, and others that are run beside it."""
        pool = "" if self.address_pool is None else self.load_balancer_pool
        write_private(self.cloud_config, json.dumps({"data_dir": str(self.data_dir), "pool": pool}).encode())

    def save(self) -> None:
        self.save_in(self.data_dir)

    def save_in(self, folder: Path) -> None:
        """Write them to ``folder``, which may become the data directory later."""
        folder.mkdir(parents=True, exist_ok=True)
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        write_private(self._file(folder), json.dumps(values, indent=2).encode() + b"\n")

    @staticmethod
    def _file(data_dir: Path) -> Path:
        return data_dir / "cluster.json"

    @classmethod
    def load(cls, data_dir: Path) -> Settings | None:
        """The settings of the cluster in ``data_dir``, or None if none exists."""
        try:
            text = cls._file(data_dir).read_text()
        except FileNotFoundError:
            return None
        try:
            values: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise SettingsError(
                f"{cls._file(data_dir)} is damaged ({error}); restore it, or run `tiphys reset`"
            ) from error
        known = {f.name for f in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise SettingsError(f"{cls._file(data_dir)} was written by a newer Tiphys ({', '.join(unknown)}); upgrade")
        converted: dict[str, Any] = {k: Path(v) if k.endswith("_dir") else v for k, v in values.items()}
        return cls(**converted)

    def changed(self, **values: Any) -> Settings:
        """These settings with others in place; None leaves a value as it is."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})


def split(text: str) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _first_block(cidr: str) -> str:
    """The first block of the size that node IPAM hands out."""
    network = ipaddress.ip_network(cidr)
    size = 24 if network.version == 4 else 64
    return str(network if network.prefixlen >= size else next(network.subnets(new_prefix=size)))


def network_address(cidr: str, number: int) -> str:
    """An address of a network by its number."""
    return str(ipaddress.ip_network(cidr)[number])


def write_private(path: Path, data: bytes) -> None:
    """Replace a file's content at once, readable by its owner only, and durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
