"""The rules of one service as nftables text (pure): which elements dispatch to it, and the chains that carry it.

The path of a packet: a base chain looks its destination up in a verdict map (``service-ips``, or ``service-nodeports``
for the node's own addresses), which sends it to a chain that picks an endpoint at random and rewrites the destination
(DNAT). A service port with nothing but a cluster IP, as nearly all have, has no chain of its own: it is sent to the
chain of all that have as many endpoints (``one-of/tcp/3``), which looks its choice up in ``tcp-endpoints``.
Others have their own chain. External traffic first passes the service's ``external-`` chain, which marks packets that
must leave with this node's address (masquerade), so that answers come back this way. Source: the design of nftables
mode, KEP-3866.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.proxy.endpoints import Endpoints, Usable, usable
from tiphys.proxy.state import Backends, Endpoint, Family, Place, ServicePort, ServiceState

CLUSTER_IPS = "cluster-ips"
SERVICE_IPS = "service-ips"
NODE_PORTS = "service-nodeports"
NO_ENDPOINT_IPS = "no-endpoint-services"
NO_ENDPOINT_NODE_PORTS = "no-endpoint-nodeports"
FIREWALL_IPS = "firewall-ips"
HAIRPIN = "hairpin-connections"

MOST_IN_TURN = 16
"""With more endpoints a chain chooses by a map. The kernel gives each such map a name, and looks all others through for
it: with 10,000 of them it takes nine seconds, without them half a second."""

ElementKey = tuple[str, str]
"""The set or map, and the element's key."""


def choices(protocol: str) -> str:
    """The map of all endpoints that are chosen by number: the address of the service and the number lead to one."""
    return f"{protocol}-endpoints"


def choice(family: Family, protocol: str, count: int) -> str:
    """The key of an endpoint of that map, any of ``count``, as rules write it."""
    return f"{family} daddr . {protocol} dport . numgen random mod {count}"


@dataclass(frozen=True, slots=True)
class Options:
    """How rules are made on this node, beyond the services themselves."""

    family: Family = "ip"
    place: Place = field(default_factory=lambda: Place(""))
    node_ip: str = ""
    masquerade_mark: int = 0x4000
    masquerade_all: bool = False
    from_pod: str = ""
    """A match for traffic of pods, such as ``ip saddr 10.244.0.0/16``; empty if it is not known."""
    not_from_pod: str = ""
    node_port_ranges: tuple[str, ...] = ()
    """The node's addresses that accept NodePort traffic; empty means all."""
    localhost_node_ports: bool = False
    """Whether NodePorts answer on 127.0.0.1 too, which needs the kernel's route_localnet."""
    service_ranges: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        return f"mark set mark or {self.masquerade_mark:#x}"


@dataclass(slots=True)
class ServiceRules:
    """What one service puts into the table."""

    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Rules by chain, in order. Services with equally many endpoints share a chain."""
    affinity_sets: dict[str, int] = field(default_factory=dict)
    """Timeout in seconds, by set."""
    elements: dict[ElementKey, str] = field(default_factory=dict)
    """What each map element leads to, a verdict or an endpoint; empty for elements of sets."""


def service_rules(state: ServiceState, options: Options) -> ServiceRules:
    rules = ServiceRules()
    for backends in state:
        _PortRules(rules, backends, options).write()
    return rules


class _PortRules:
    """Writes the rules of one service port into ``rules``."""

    def __init__(self, rules: ServiceRules, backends: Backends, options: Options) -> None:
        self.rules = rules
        self.port = backends.port
        self.options = options
        self.usable: Usable = usable(backends.endpoints, backends.port, options.place)
        base = _hashed(_port_name(self.port))
        self.cluster_chain, self.local_chain = f"service-{base}", f"local-{base}"
        self.external_chain, self.firewall_chain = f"external-{base}", f"firewall-{base}"

    def write(self) -> None:
        self._dispatch()
        self._external_chain()
        self._firewall()
        if self._by_elements:
            self._choices()
        else:
            self._own_chains()
        self._endpoint_chains()

    # -- which packets are for this service -------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Add the map and set elements that lead to this port's chains, or refuse its traffic."""
        port, anywhere = self.port, self.usable.anywhere
        self._element(CLUSTER_IPS, port.cluster_ip, "")
        inside = self._has_endpoints(local_only=port.internal_local)
        if inside:
            self._element(SERVICE_IPS, self._address(port.cluster_ip), f"goto {self._cluster_ip_chain}")
        else:
            self._element(NO_ENDPOINT_IPS, self._address(port.cluster_ip), self._refusal)
        outside = self._has_endpoints(local_only=port.external_local)
        for ip in (*port.external_ips, *port.load_balancer_ips):
            # Traffic that starts on this node is exempt from policy Local, so the chain is there even if packets
            # from outside are dropped.
            if anywhere:
                self._element(SERVICE_IPS, self._address(ip), f"goto {self.external_chain}")
            if not outside:
                self._element(NO_ENDPOINT_IPS, self._address(ip), self._refusal)
        if port.node_port:
            key = f"{port.protocol} . {port.node_port}"
            if anywhere:
                self._element(NODE_PORTS, key, f"goto {self.external_chain}")
            if not outside:
                self._element(NO_ENDPOINT_NODE_PORTS, key, self._refusal)

    def _has_endpoints(self, *, local_only: bool) -> bool:
        return bool(self.usable.local) if local_only else self.usable.anywhere

    @property
    def _refusal(self) -> str:
        """Endpoints that are merely elsewhere: drop, as the balancer in front has other nodes; none at all: refuse."""
        return "drop" if self.usable.anywhere else "goto reject-chain"

    def _address(self, ip: str) -> str:
        return f"{ip} . {self.port.protocol} . {self.port.port}"

    def _element(self, container: str, key: str, verdict: str) -> None:
        self.rules.elements[container, key] = verdict

    # -- what happens to them ---------------------------------------------------------------------------------------

    def _external_chain(self) -> None:
        if not (self.usable.anywhere and self.port.externally_accessible):
            return
        options, lines = self.options, []
        if not self.port.external_local:
            lines.append(f'{options.mark} comment "masquerade"')
        elif self.usable.cluster:
            if options.from_pod:
                lines.append(f'{options.from_pod} goto {self.cluster_chain} comment "short-circuit pod traffic"')
            lines.append(f'fib saddr type local {options.mark} comment "masquerade local traffic"')
            lines.append(f'fib saddr type local goto {self.cluster_chain} comment "short-circuit local traffic"')
        if self._has_endpoints(local_only=self.port.external_local):
            lines.append(f"goto {self.local_chain if self.port.external_local else self.cluster_chain}")
        self.rules.chains[self.external_chain] = tuple(lines)

    def _firewall(self) -> None:
        port = self.port
        if not (port.load_balancer_ips and port.source_ranges):
            return
        allowed = [*port.source_ranges]
        if _contains(port.source_ranges, self.options.node_ip):
            # If the balancer's address is on the node itself, its requests come from that address.
            allowed += port.load_balancer_ips
        drop = f"{self.options.family} saddr != {{ {', '.join(_merged(allowed))} }} drop"
        self.rules.chains[self.firewall_chain] = (drop,)
        for ip in port.load_balancer_ips:
            self._element(FIREWALL_IPS, self._address(ip), f"goto {self.firewall_chain}")

    @property
    def _by_elements(self) -> bool:
        """Whether the cluster IP is all that leads to the endpoints, and any of them will do for anybody."""
        return not (self.port.externally_accessible or self.port.affinity_seconds)

    @property
    def _cluster_ip_chain(self) -> str:
        if self._by_elements:
            return f"one-of/{self.port.protocol}/{len(self._inside)}"
        return self.local_chain if self.port.internal_local else self.cluster_chain

    @property
    def _inside(self) -> Endpoints:
        """The endpoints for traffic to the cluster IP."""
        return self.usable.local if self.port.internal_local else self.usable.cluster

    def _choices(self) -> None:
        """Number the endpoints, for the chain of all services that have as many."""
        port, family, endpoints = self.port, self.options.family, self._inside
        if not endpoints:
            return
        chosen = choice(family, port.protocol, len(endpoints))
        self.rules.chains[self._cluster_ip_chain] = (f"dnat {family} to {chosen} map @{choices(port.protocol)}",)
        for number, endpoint in enumerate(endpoints):
            key = f"{port.cluster_ip} . {port.port} . {number}"
            self._element(choices(port.protocol), key, f"{endpoint.ip} . {endpoint.port}")

    def _own_chains(self) -> None:
        if self.port.uses_cluster_endpoints:
            self._balance(self.cluster_chain, self.usable.cluster)
        if self.port.uses_local_endpoints:
            self._balance(self.local_chain, self.usable.local)

    def _balance(self, chain: str, endpoints: Endpoints) -> None:
        if not endpoints:
            return
        family, count = self.options.family, len(endpoints)
        if self.port.affinity_seconds:
            known = [f"{family} saddr @{self._affinity_set(e)} goto {self._endpoint_chain(e)}" for e in endpoints]
            self.rules.chains[chain] = (*known, *_one_of([f"goto {self._endpoint_chain(e)}" for e in endpoints]))
        elif count <= MOST_IN_TURN:
            self.rules.chains[chain] = _one_of([self._rewrite(endpoint) for endpoint in endpoints])
        else:
            targets = ", ".join(f"{i} : {e.ip} . {e.port}" for i, e in enumerate(endpoints))
            self.rules.chains[chain] = (
                f"meta l4proto {self.port.protocol} dnat {family} addr . port to "
                f"numgen random mod {count} map {{ {targets} }}",
            )

    def _endpoint_chains(self) -> None:
        for endpoint in self.usable.reachable:
            if endpoint.local:
                # A pod that reaches itself through its service would see its own address as the sender.
                key = f"{endpoint.ip} . {endpoint.ip} . {self.port.protocol} . {endpoint.port}"
                self._element(HAIRPIN, key, "")
            if self.port.affinity_seconds:
                self.rules.affinity_sets[self._affinity_set(endpoint)] = self.port.affinity_seconds
                self.rules.chains[self._endpoint_chain(endpoint)] = (
                    f"update @{self._affinity_set(endpoint)} {{ {self.options.family} saddr }}",
                    self._rewrite(endpoint),
                )

    def _rewrite(self, endpoint: Endpoint) -> str:
        ip = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
        return f"meta l4proto {self.port.protocol} dnat to {ip}:{endpoint.port}"

    def _endpoint_chain(self, endpoint: Endpoint) -> str:
        return f"endpoint-{_endpoint_name(self.port, endpoint)}"

    def _affinity_set(self, endpoint: Endpoint) -> str:
        return f"affinity-{_endpoint_name(self.port, endpoint)}"


def _one_of(ends: list[str]) -> tuple[str, ...]:
    """Rules one after the other, each of which takes its share of what is left."""
    shares = [f"numgen random mod {left} < 1 " for left in range(len(ends), 1, -1)]
    return tuple(f"{share}{end}" for share, end in zip((*shares, ""), ends, strict=True))


def _port_name(port: ServicePort) -> str:
    return f"{port.namespace}/{port.name}/{port.protocol}/{port.port_name}"


def _endpoint_name(port: ServicePort, endpoint: Endpoint) -> str:
    return _hashed(f"{_port_name(port)}__{endpoint.ip.replace(':', '.')}/{endpoint.port}")


_LONGEST_NAME = 240


def _hashed(name: str) -> str:
    """A chain's name, with a hash in front: it stays unique if it is cut, and differs at a glance."""
    digest = base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()[:8]
    full = f"{digest}-{name}"
    return full if len(full) <= _LONGEST_NAME else full[: _LONGEST_NAME - 3] + "..."


def _contains(ranges: Iterable[str], ip: str) -> bool:
    return bool(ip) and any(ipaddress.ip_address(ip) in ipaddress.ip_network(text) for text in ranges)


def _merged(ranges: Iterable[str]) -> list[str]:
    """The ranges without overlaps, which an anonymous set refuses."""
    networks = [ipaddress.ip_network(text) for text in ranges]
    v4 = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    return [str(n) for n in (*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6))]
