"""Kubelet settings: the supported fields of KubeletConfiguration and flags, with upstream's defaults.

Source: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.kubelet.node.resolver import read_resolver
from tiphys.kubelet.quantities import exact
from tiphys.kubelet.shutdown.groups import Period
from tiphys.runtime.logs import LogSettings

SYSTEMD_RESOLVER = Path("/run/systemd/resolve/resolv.conf")


def default_resolver_file(path: str = "/etc/resolv.conf", systemd: Path = SYSTEMD_RESOLVER) -> str:
    """The node's resolver file; if it leads to a resolver on the node's loopback, systemd's list of real ones."""
    servers = read_resolver(path).servers
    only_local = bool(servers) and all(server.startswith("127.") or server == "::1" for server in servers)
    return str(systemd) if only_local and systemd.exists() else path


@dataclass(slots=True)
class KubeletConfig:
    node_name: str
    root: Path = Path("/var/lib/kubelet")
    node_ips: tuple[str, ...] = ()
    """The node's addresses; empty: found out."""
    external_cloud: bool = False
    """A cloud's controllers say what the node is and which addresses it has."""
    provider_id: str = ""
    """By which the cloud knows the node; empty: the cloud says it."""
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, Any]] = field(default_factory=list)
    register_node: bool = True
    static_pod_path: Path | None = None
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolver_file: str = field(default_factory=default_resolver_file)
    log_root: str = "/var/log/pods"
    container_log_links: str = "/var/log/containers"
    max_pods: int = 110
    pod_pids_limit: int = -1
    """Processes and threads that one pod may have; -1: as many as the node has room for."""
    pod_cidr: str = ""
    cgroup_driver: str = "cgroupfs"
    cgroup_root: str = ""
    cgroups_per_qos: bool = True
    cpu_cfs_quota: bool = True
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    reserved_cpus: str = ""
    """Processors that are kept for the system, as ``0-1,4``; empty: as many as ``reserved`` says."""
    gates: dict[str, bool] = field(default_factory=dict)
    """The feature gates that were asked for."""
    cpu_policy: str = "none"
    cpu_policy_options: dict[str, str] = field(default_factory=dict)
    topology_policy: str = "none"
    topology_scope: str = "container"
    topology_policy_options: dict[str, str] = field(default_factory=dict)
    memory_policy: str = "None"
    reserved_memory: tuple[tuple[int, dict[str, str]], ...] = ()
    """NUMA nodes, and what each keeps for the system, by resource."""
    seccomp_default: bool = False
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    serialize_image_pulls: bool = True
    parallel_image_pulls: int = 1
    eviction_hard: dict[str, str] = field(default_factory=lambda: {"memory.available": "100Mi"})
    """Thresholds that end pods. The command's default watches the disk too, as upstream's; a cluster on a developer's
    machine does not, as a disk that is nearly full is nothing unusual there."""
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_minimum_age: float = 120.0
    shutdown_period: float = 0.0
    """Seconds that pods have to end when the machine is shut down; 0 for both and no priorities: it is not waited."""
    shutdown_period_critical: float = 0.0
    """How many of these are for critical pods alone."""
    shutdown_periods: tuple[Period, ...] = ()
    container_log_max_size: int = 10 << 20
    container_log_max_files: int = 5
    address: str = "0.0.0.0"
    port: int = 10250
    """Port of the kubelet's server; 0 for any free one."""
    serve: bool = True
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 0
    """Port of the health page for the node's own; 0 for none. The command's default is upstream's."""
    cert_dir: Path | None = None
    """Folder of the certificates that the kubelet makes or asks for itself: upstream's is ``pki`` below its own."""
    rotate_certificates: bool = False
    """Whether the client certificate is renewed before it ends."""
    server_tls_bootstrap: bool = False
    """Whether the serving certificate is asked of the cluster, and renewed before it ends."""
    tls_cert: Path | None = None
    """Without one the kubelet signs its own, if it has a ``cert_dir``, and otherwise serves without TLS."""
    tls_key: Path | None = None
    client_ca: Path | None = None
    anonymous: bool = False
    token_webhook: bool = True
    authorization: str = "Webhook"
    """``Webhook`` asks the API server, ``AlwaysAllow`` lets every known caller do everything."""
    memory_volumes: bool = True
    logging: LogSettings = field(default_factory=LogSettings)
    api_qps: float | None = None
    api_burst: int | None = None
    """Requests a second to the API server, and how many at once; without the first nothing makes them wait."""
    flags: Mapping[str, object] = field(default_factory=dict)
    """What ``/flagz`` shows."""
    runtime_socket: str = ""
    """The path of the runtime's socket, for figures of its process; empty: none is known."""

    @property
    def reserved(self) -> dict[str, str]:
        """What is kept for the system and for the cluster's own programs together."""
        amounts = dict(self.system_reserved)
        for name, text in self.kube_reserved.items():
            if name in amounts:
                both = exact(amounts[name]) + exact(text)
                text = f"{-(-both // 10**6)}m" if name == "cpu" else str(-(-both // 10**9))
            amounts[name] = text
        return amounts
