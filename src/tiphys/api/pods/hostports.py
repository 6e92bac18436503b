"""Ports of the host that a pod takes, and whether two pods want the same one. One meaning for scheduler and kubelet.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#ports (``hostPort``, ``hostIP``)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tiphys.api.object import Object

HostPort = tuple[str, str, int]
"""Address, protocol, port."""
ANY_ADDRESS = "0.0.0.0"


def host_ports(spec: Object) -> tuple[HostPort, ...]:
    """The host ports of a pod's containers, sidecars included, other init containers not."""
    containers = [*(spec.get("containers") or ())]
    containers += [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return tuple(
        (port.get("hostIP") or ANY_ADDRESS, port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def collides(wanted: Iterable[HostPort], used: Collection[HostPort]) -> bool:
    """Whether a port that is wanted is used at the same address, or at every address on either side."""
    for address, protocol, port in wanted:
        if (address, protocol, port) in used or (ANY_ADDRESS, protocol, port) in used:
            return True
        if address == ANY_ADDRESS and any(p == port and proto == protocol for _, proto, p in used):
            return True
    return False
