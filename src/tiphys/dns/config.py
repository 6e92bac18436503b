"""``DNSConfig``: where the DNS server listens and what it answers for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DNSConfig:
    """``address`` and ``port`` are where this node's server listens; ``service_ip`` is the cluster's DNS address."""

    node_name: str
    address: str
    port: int = 10053
    cluster_domain: str = "cluster.local"
    service_ip: str = "10.96.0.10"
    publish: bool = True
    """Whether to make Service kube-system/kube-dns point here."""
    resolver_file: str = "/etc/resolv.conf"
    """Names the servers to ask for names outside of the cluster."""
    upstreams: tuple[str, ...] = ()
    """Those servers as address or address:port, in place of the file's."""
    stub_zones: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Zones that servers of their own answer for."""
    recursion_for: tuple[str, ...] = ()
    """The networks whose questions about other names are passed on, besides those of this node itself: the pods'."""
    health_address: str = ""
    """Where /healthz, /livez and /readyz are served, as host:port; empty for nowhere."""
    health_addresses: tuple[str, ...] = ()
    """Further addresses of the same, where CoreDNS has them by its Corefile."""
    flags: Mapping[str, object] = field(default_factory=dict)
    """What ``/flagz`` shows."""
    ttl: int = 30
    forward_timeout: float = 2.0
    """Seconds to wait for each upstream."""
