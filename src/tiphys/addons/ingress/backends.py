"""From a Service's port to the endpoints behind it (pure): requests go to the pods, not by way of the ClusterIP.

Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tiphys.addons.ingress.model import ProxyTarget, TargetGroup, Unusable
from tiphys.api.object import Object

H2C = "kubernetes.io/h2c"


@dataclass(frozen=True, slots=True)
class World:
    """What objects refer to, by namespace and name."""

    service: Callable[[str, str], Object | None]
    slices: Callable[[str, str], Iterable[Object]]
    secret: Callable[[str, str], Object | None]


def group_of(namespace: str, name: str, port: str | int, world: World) -> TargetGroup:
    """The group of a Service's port, by its name or number. Raises ``Unusable``."""
    service = world.service(namespace, name)
    if service is None:
        raise Unusable(f"service {name} does not exist")
    if service["spec"].get("type") == "ExternalName":
        raise Unusable(f"service {name} is of type ExternalName, which has no endpoints")
    described = next((p for p in service["spec"].get("ports") or () if port in (p["port"], p.get("name"))), None)
    if described is None:
        raise Unusable(f"service {name} has no port {port}")
    targets = sorted(set(_targets(world.slices(namespace, name), described.get("name") or "")))
    return TargetGroup(group_name(namespace, name, port), tuple(targets), described.get("appProtocol") == H2C)


def group_name(namespace: str, name: str, port: str | int) -> str:
    return f"{namespace}_{name}_{port}"


def _targets(slices: Iterable[Object], port_name: str) -> Iterable[ProxyTarget]:
    for slice_ in slices:
        numbers = [p["port"] for p in slice_.get("ports") or () if (p.get("name") or "") == port_name and p.get("port")]
        for endpoint in slice_.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready") is False or slice_.get("addressType") == "FQDN":
                continue
            for address in (endpoint.get("addresses") or ())[:1]:
                yield from (ProxyTarget(address, number) for number in numbers)
