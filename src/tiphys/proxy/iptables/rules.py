"""The rules of one service as lines of iptables-restore (pure): which packets are for it, and the chains that carry it.

The path of a packet: ``KUBE-SERVICES`` compares its destination with one service port after the other, and sends it to
that port's chain (``KUBE-SVC-``), which jumps to one endpoint's (``KUBE-SEP-``) with equal probability; that one
rewrites the destination. External traffic first passes ``KUBE-EXT-``, which marks packets that must leave with this
node's address; a load balancer's address with source ranges, ``KUBE-FW-``. Source:
https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from tiphys.proxy.endpoints import Endpoints, usable
from tiphys.proxy.iptables import names
from tiphys.proxy.rules import Options
from tiphys.proxy.state import Backends, Endpoint, ServiceState

Rules = tuple[str, ...]
Chain = tuple[str, str]
"""Table and name of a chain that services share."""

NAT_SERVICES: Chain = ("nat", names.SERVICES)
NAT_NODE_PORTS: Chain = ("nat", names.NODE_PORTS)
REFUSED: Chain = ("filter", names.SERVICES)
REFUSED_OUTSIDE: Chain = ("filter", names.EXTERNAL)
FIREWALLED: Chain = ("filter", names.PROXY_FIREWALL)
ACCEPTED: Chain = ("filter", names.NODE_PORTS)
SHARED = (NAT_SERVICES, NAT_NODE_PORTS, REFUSED, REFUSED_OUTSIDE, FIREWALLED, ACCEPTED)


@dataclass(slots=True)
class ServiceRules:
    """What one service puts into the tables. Rules have no chain's name in front."""

    chains: dict[str, Rules] = field(default_factory=dict)
    """The service's own chains in the table nat."""
    shared: dict[Chain, list[str]] = field(default_factory=dict)
    """Its rules in chains that services share."""

    def share(self, chain: Chain, rule: str) -> None:
        self.shared.setdefault(chain, []).append(rule)


def service_rules(state: ServiceState, options: Options) -> ServiceRules:
    rules = ServiceRules()
    for backends in state:
        _PortRules(rules, backends, options).write()
    return rules


class _PortRules:
    """Writes the rules of one service port into ``rules``."""

    def __init__(self, rules: ServiceRules, backends: Backends, options: Options) -> None:
        self.rules, self.port, self.options = rules, backends.port, options
        self.usable = usable(backends.endpoints, backends.port, options.place)
        chains = names.chains(backends.port)
        self.cluster_chain, self.local_chain, self.external_chain, self.firewall_chain = chains
        self.endpoint_chains = {
            endpoint.address: names.endpoint_chain(backends.port, endpoint) for endpoint in self.usable.reachable
        }

    def write(self) -> None:
        self._inside()
        self._outside()
        self._health_check()
        if self.port.uses_cluster_endpoints and self.usable.cluster:
            self.rules.chains[self.cluster_chain] = (*self._masquerade_inside(), *self._balance(self.usable.cluster))
        if self.port.uses_local_endpoints and self.usable.local:
            inside = self._masquerade_inside() if self.port.internal_local else ()
            self.rules.chains[self.local_chain] = (*inside, *self._balance(self.usable.local))
        for endpoint in self.usable.reachable:
            self.rules.chains[self.endpoint_chains[endpoint.address]] = self._endpoint(endpoint)

    # -- which packets are for this service -------------------------------------------------------------------------

    def _inside(self) -> None:
        match = self._to(self.port.cluster_ip)
        if self._has_endpoints(local_only=self.port.internal_local):
            chain = self.local_chain if self.port.internal_local else self.cluster_chain
            self._share(NAT_SERVICES, "cluster IP", f"{match} -j {chain}")
        else:
            self._share(REFUSED, self._reason, f"{match} -j {self._refusal}")

    def _outside(self) -> None:
        port, anywhere = self.port, self.usable.anywhere
        outside = self._has_endpoints(local_only=port.external_local)
        firewall = bool(port.load_balancer_ips and port.source_ranges)
        # Traffic that starts on this node is exempt from policy Local, so the chain is there even if packets from
        # outside are dropped.
        if anywhere and port.externally_accessible:
            self.rules.chains[self.external_chain] = self._external()
            if firewall:
                self.rules.chains[self.firewall_chain] = self._firewall()
        for ip in port.external_ips:
            self._address(ip, "external IP", self.external_chain, served=anywhere, refused=not outside)
        for ip in port.load_balancer_ips:
            chain = self.firewall_chain if firewall else self.external_chain
            self._address(ip, "loadbalancer IP", chain, served=anywhere, refused=not outside)
            if firewall:
                # What the chain did not let through still has the balancer's address.
                self._share(FIREWALLED, "traffic not accepted by its source ranges", f"{self._to(ip)} -j DROP")
        if port.node_port:
            match = f"-p {port.protocol} -m {port.protocol} --dport {port.node_port}"
            if anywhere:
                self._share(NAT_NODE_PORTS, "", f"{match} -j {self.external_chain}")
            if not outside:
                local = f"-m addrtype --dst-type LOCAL {match}"
                self._share(REFUSED_OUTSIDE, self._reason, f"{local} -j {self._refusal}")

    def _address(self, ip: str, what: str, chain: str, *, served: bool, refused: bool) -> None:
        if served:
            self._share(NAT_SERVICES, what, f"{self._to(ip)} -j {chain}")
        if refused:
            self._share(REFUSED_OUTSIDE, self._reason, f"{self._to(ip)} -j {self._refusal}")

    def _health_check(self) -> None:
        if number := self.port.health_check_node_port:
            self._share(ACCEPTED, "health check node port", f"-p tcp -m tcp --dport {number} -j ACCEPT")

    def _has_endpoints(self, *, local_only: bool) -> bool:
        return bool(self.usable.local) if local_only else self.usable.anywhere

    @property
    def _refusal(self) -> str:
        """Endpoints that are merely elsewhere: drop, as the balancer in front has other nodes; none at all: refuse."""
        return "DROP" if self.usable.anywhere else "REJECT"

    @property
    def _reason(self) -> str:
        return "has no local endpoints" if self.usable.anywhere else "has no endpoints"

    def _to(self, ip: str) -> str:
        protocol = self.port.protocol
        return f"-d {host_range(ip)} -p {protocol} -m {protocol} --dport {self.port.port}"

    def _share(self, chain: Chain, comment: str, rule: str) -> None:
        text = f"{self.port} {comment}".rstrip()
        self.rules.share(chain, f'-m comment --comment "{text}" {rule}')

    # -- what happens to them ---------------------------------------------------------------------------------------

    def _masquerade_inside(self) -> Rules:
        """Packets to the cluster's address of others than pods: their answers must come back this way."""
        match = self._to(self.port.cluster_ip)
        if self.options.masquerade_all:
            return (f"{match} -j {names.MARK_MASQ}",)
        if self.options.not_from_pod:
            return (f"{self.options.not_from_pod} {match} -j {names.MARK_MASQ}",)
        return ()

    def _external(self) -> Rules:
        """What leads to the port's endpoints from outside."""
        rules: list[str] = []
        if not self.port.external_local:
            rules.append(f"-j {names.MARK_MASQ}")
        elif self.usable.cluster:
            if self.options.from_pod:
                rules.append(f"{self.options.from_pod} -j {self.cluster_chain}")
            rules.append(f"-m addrtype --src-type LOCAL -j {names.MARK_MASQ}")
            rules.append(f"-m addrtype --src-type LOCAL -j {self.cluster_chain}")
        if self._has_endpoints(local_only=self.port.external_local):
            rules.append(f"-j {self.local_chain if self.port.external_local else self.cluster_chain}")
        return tuple(rules)

    def _firewall(self) -> Rules:
        port, sources = self.port, [*self.port.source_ranges]
        if contains(port.source_ranges, self.options.node_ip):
            # If the balancer's address is on the node itself, its requests come from that address.
            sources += [host_range(ip) for ip in port.load_balancer_ips]
        return tuple(f"-s {source} -j {self.external_chain}" for source in sources)

    def _balance(self, endpoints: Endpoints) -> Rules:
        chains = [self.endpoint_chains[endpoint.address] for endpoint in endpoints]
        known: list[str] = []
        if seconds := self.port.affinity_seconds:
            known = [f"-m recent --name {c} --rcheck --seconds {seconds} --reap -j {c}" for c in chains]
        left = range(len(chains), 1, -1)
        shares = [f"-m statistic --mode random --probability {1 / n:.10f} " for n in left]
        return (*known, *(f"{share}-j {chain}" for share, chain in zip((*shares, ""), chains, strict=True)))

    def _endpoint(self, endpoint: Endpoint) -> Rules:
        # A pod that reaches itself through its service would see its own address as the sender.
        hairpin = f"-s {host_range(endpoint.ip)} -j {names.MARK_MASQ}"
        chain, protocol = self.endpoint_chains[endpoint.address], self.port.protocol
        noted = f"-m recent --name {chain} --set " if self.port.affinity_seconds else ""
        target = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
        return hairpin, f"{noted}-p {protocol} -m {protocol} -j DNAT --to-destination {target}:{endpoint.port}"


def host_range(ip: str) -> str:
    return f"{ip}/128" if ":" in ip else f"{ip}/32"


def contains(ranges: Iterable[str], ip: str) -> bool:
    return bool(ip) and any(ipaddress.ip_address(ip) in ipaddress.ip_network(text) for text in ranges)
