"""haproxy's configuration for load balancers: for each port of a Service a listener on its address (pure).

Source: https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError
from tiphys.cloud.providers.local.allocation import node_addresses, versions_of


@dataclass(frozen=True, slots=True)
class Frontend:
    """A port of a load balancer, and the node port it leads to; 0 for one that leads to the Service's own address."""

    port: int
    node_port: int


@dataclass(frozen=True, slots=True)
class Balancer:
    """A Service's load balancer, as it is kept in a file and written for haproxy.

    ``backends`` are addresses of nodes by the node's name; ``health_port`` is that of ``externalTrafficPolicy: Local``,
    0 for none; ``sources`` are the networks that are let in, none for all; ``by_client``: a client's connections go to
    one node, as it would be another client to another one. ``cluster_ip`` is the Service's own address, which this
    machine reaches as one of the nodes.
    """

    uid: str
    service: str
    addresses: Sequence[str]
    frontends: Sequence[Frontend] = ()
    backends: Sequence[tuple[str, str]] = ()
    health_port: int = 0
    sources: Sequence[str] = field(default=())
    by_client: bool = False
    cluster_ip: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_balancer(document: dict[str, Any]) -> Balancer:
    frontends = [Frontend(**each) for each in document.pop("frontends")]
    backends = [(name, address) for name, address in document.pop("backends")]
    return Balancer(**document, frontends=frontends, backends=backends)


def balancer_of(service: Object, addresses: Sequence[str], nodes: Iterable[Object]) -> Balancer:
    """Raises ``CloudError`` for a port that haproxy does not carry."""
    spec, meta = service["spec"], service["metadata"]
    frontends = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol") or "TCP"
        if protocol != "TCP":
            raise CloudError(f"port {port['port']}/{protocol}: load balancers of this machine carry TCP alone")
        frontends.append(Frontend(port["port"], port.get("nodePort") or 0))
    local = spec.get("externalTrafficPolicy") == "Local"
    return Balancer(
        uid=meta["uid"],
        service=f"{meta.get('namespace', '')}/{meta['name']}",
        addresses=list(addresses),
        frontends=frontends,
        backends=backends_of(service, nodes),
        health_port=spec.get("healthCheckNodePort") or 0 if local else 0,
        sources=list(spec.get("loadBalancerSourceRanges") or ()),
        by_client=spec.get("sessionAffinity") == "ClientIP",
        cluster_ip=spec.get("clusterIP") or "",
    )


def backends_of(service: Object, nodes: Iterable[Object]) -> list[tuple[str, str]]:
    """An address of each node, by the node's name, of the Service's first IP family."""
    only = {"spec": {"ipFamilies": (service["spec"].get("ipFamilies") or ["IPv4"])[:1]}}
    assert len(versions_of(only)) == 1
    rows: list[tuple[str, str]] = []
    for node in nodes:
        rows += [(node["metadata"]["name"], address) for address in node_addresses(only, [node])]
    return sorted(rows)


def configuration(balancers: Iterable[Balancer]) -> str:
    """The whole file. Traffic is passed on as it is; a node that does not answer gets none."""
    head = [
        "global",
        "  log stderr format raw daemon warning",
        "defaults",
        "  mode tcp",
        "  timeout connect 5s",
        "  timeout client 1h",
        "  timeout server 1h",
        "  default-server inter 2s fall 2 rise 1 on-marked-down shutdown-sessions",
    ]
    listeners = [line for each in sorted(balancers, key=lambda one: one.uid) for line in _listeners(each)]
    return "\n".join([*head, *(listeners or _NOBODY)]) + "\n"


_NOBODY = ("frontend nobody", "  bind abns@tiphys-nobody")
"""haproxy does not start without anything to listen on."""


def _listeners(balancer: Balancer) -> list[str]:
    lines = []
    for frontend in balancer.frontends:
        lines.append(f"listen {balancer.uid}-{frontend.port}")
        lines += [f"  bind {_joined(address, frontend.port)}" for address in balancer.addresses]
        if balancer.sources:
            lines.append(f"  tcp-request connection reject unless {{ src {' '.join(balancer.sources)} }}")
        if balancer.by_client:
            lines += ["  balance source", "  hash-type consistent"]
        if not frontend.node_port:
            lines.append(f"  server service {_joined(balancer.cluster_ip, frontend.port)} check")
            continue
        check = "check"
        if balancer.health_port:
            lines += ["  option httpchk GET /healthz", "  http-check expect status 200"]
            check = f"check port {balancer.health_port}"
        lines += [
            f"  server {name} {_joined(address, frontend.node_port)} {check}" for name, address in balancer.backends
        ]
    return lines


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
