"""What policies ask of a pod (pure).

Source: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.proxy.state import Family


@dataclass(frozen=True, slots=True)
class PodFacts:
    """``ports`` are (name, protocol, number) of the containers' named ports; ``local``: the pod is on this node."""

    labels: dict[str, str]
    addresses: tuple[str, ...]
    local: bool
    ports: tuple[tuple[str, str, int], ...] = ()


def pod_facts(pod: Object, node: str, family: Family) -> PodFacts | None:
    """None for a pod that no policy applies to: on its node's network, ended, or without an address."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    listed = [entry["ip"] for entry in status.get("podIPs") or () if entry.get("ip")]
    addresses = tuple(ip for ip in listed or [status.get("podIP") or ""] if ip and (":" in ip) == (family == "ip6"))
    if not addresses:
        return None
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    ports = tuple(
        (port["name"], str(port.get("protocol") or "TCP").lower(), port["containerPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("name")
    )
    return PodFacts(pod["metadata"].get("labels") or {}, addresses, spec.get("nodeName") == node, ports)
