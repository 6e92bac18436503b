"""How a node's proxy works: upstream's KubeProxyConfiguration as plain values.

Source: https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tiphys.client.options import ClientOptions
from tiphys.proxy import host
from tiphys.proxy.modes import LocalMode, Mode


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """How this node's proxy works. Times in seconds."""

    node_name: str
    mode: Mode = ""
    """Empty: nftables if it can be used, else iptables, else userspace."""
    node_ips: tuple[str, ...] = ()
    """This node's addresses; empty: those of its Node."""
    cluster_cidrs: tuple[str, ...] = ()
    detect_local_mode: LocalMode = "ClusterCIDR"
    bridge_interface: str = ""
    interface_name_prefix: str = ""
    masquerade_all: bool = False
    masquerade_bit: int = 14
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = True
    sync_period: float = 30.0
    min_sync_period: float = 0.1
    """Changes that come within it are done in one go. A change costs a millisecond, so a tenth of a second is
    affordable where upstream takes 1 s, and a pod that is gone gets no packets that much sooner."""
    healthz_address: str = "127.0.0.1:10256"
    metrics_address: str = "127.0.0.1:10249"
    profiling: bool = False
    """Whether ``/debug/pprof/`` is served there, to everybody who reaches it, as the metrics are."""
    bind_address_hard_fail: bool = False
    oom_score_adjust: int | None = None
    """None: as the process was started."""
    conntrack: host.ConntrackSettings = field(default_factory=host.ConntrackSettings)
    sysctl_root: Path = host.PROC_SYS
    client: ClientOptions = field(default_factory=ClientOptions)
    """What is said about the client beside the kubeconfig."""
    flags: Mapping[str, object] = field(default_factory=dict)
    """What ``/flagz`` shows."""
