"""The names of chains in upstream's iptables mode, which tools and upstream's own proxy look for (pure).

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#proxy-mode-iptables
"""

from __future__ import annotations

import base64
import hashlib

from tiphys.proxy.state import Endpoint, ServicePort

SERVICES = "KUBE-SERVICES"
EXTERNAL = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
FIREWALL = "KUBE-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"

FIXED = {
    "filter": (SERVICES, EXTERNAL, NODE_PORTS, FORWARD, PROXY_FIREWALL, FIREWALL),
    "nat": (SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQ, CANARY),
}
"""The chains that do not belong to one service, by table."""

OF_SERVICES = ("KUBE-FW-", "KUBE-EXT-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-")
"""How the names of services' chains begin, each ahead of those that it jumps to; all of them are in the table nat."""


def is_service_chain(name: str) -> bool:
    return name.startswith(OF_SERVICES)


def removal_order(name: str) -> tuple[int, str]:
    """Sorts chains so that each is removed ahead of those that it jumps to."""
    return next((rank for rank, start in enumerate(OF_SERVICES) if name.startswith(start)), 0), name


def chains(port: ServicePort) -> tuple[str, str, str, str]:
    """The chains of a service port: to its endpoints, to those on this node, from outside, and past its firewall."""
    hashed = _hashed(f"{port}{port.protocol}")
    return f"KUBE-SVC-{hashed}", f"KUBE-SVL-{hashed}", f"KUBE-EXT-{hashed}", f"KUBE-FW-{hashed}"


def endpoint_chain(port: ServicePort, endpoint: Endpoint) -> str:
    ip = f"[{endpoint.ip}]" if ":" in endpoint.ip else endpoint.ip
    return f"KUBE-SEP-{_hashed(f'{port}{port.protocol}{ip}:{endpoint.port}')}"


def _hashed(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()
