"""What the proxy knows: service ports and their endpoints, of one IP family, free of API objects.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["ip", "ip6"]
"""The two IP families, under nftables' names for them."""

ServiceKey = tuple[str, str]
"""Namespace and name."""

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address and port behind a service port, with the conditions of its EndpointSlice."""

    ip: str
    port: int
    local: bool = False
    """Whether it is on this node."""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: frozenset[str] = NOBODY
    """The zones whose clients should use it (topology hints)."""
    nodes: frozenset[str] = NOBODY
    """The nodes whose clients should use it."""

    @property
    def address(self) -> tuple[str, int]:
        return self.ip, self.port


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a service, in one IP family."""

    namespace: str
    name: str
    port_name: str
    protocol: str
    """tcp, udp or sctp."""
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    """Who may use the load balancer's addresses; empty means everybody."""
    affinity_seconds: int = 0
    """How long a client address sticks to its endpoint (session affinity ClientIP); 0 means it does not."""
    health_check_node_port: int = 0
    external_local: bool = False
    internal_local: bool = False

    @property
    def key(self) -> ServiceKey:
        return self.namespace, self.name

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.port_name}" if self.port_name else f"{self.namespace}/{self.name}"

    @property
    def externally_accessible(self) -> bool:
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Local policy needs them too, for traffic that starts on this node and is exempt from the policy."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        return self.internal_local or (self.external_local and self.externally_accessible)


@dataclass(frozen=True, slots=True)
class Backends:
    """A service port with its endpoints: the unit that rules are made for."""

    port: ServicePort
    endpoints: tuple[Endpoint, ...]


ServiceState = tuple[Backends, ...]
"""All ports of one service."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this proxy runs, as far as the choice of endpoints depends on it."""

    node: str
    zone: str = ""
