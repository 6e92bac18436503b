"""Which addresses a Service of type LoadBalancer gets (pure).

Of a pool each Service has addresses of its own, one of each IP family that it has. Where the nodes' own addresses are
used, all Services share these, and each has its ports there. Source:
https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/ (loadBalancerIP, ipFamilies).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence

from tiphys.api.meta.addresspools import AddressPool
from tiphys.api.meta.objects import key_of
from tiphys.api.object import Object
from tiphys.cloud.provider import CloudError

NODE_PORTS = range(30000, 32768)
_VERSIONS = {"IPv4": 4, "IPv6": 6}

Port = tuple[str, int]
"""Protocol and number."""


def versions_of(service: Object) -> list[int]:
    """The IP families that a Service has, 4 or 6 each, its first one first."""
    return [_VERSIONS[family] for family in service["spec"].get("ipFamilies") or ("IPv4",)]


def ports_of(service: Object) -> list[Port]:
    return [(port.get("protocol") or "TCP", port["port"]) for port in service["spec"].get("ports") or ()]


def shown_addresses(service: Object) -> list[str]:
    """The addresses that a Service's status has."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [entry["ip"] for entry in balancer.get("ingress") or () if entry.get("ip")]


def status_of(addresses: Iterable[str]) -> Object:
    return {"ingress": [{"ip": address, "ipMode": "VIP"} for address in addresses]}


def allocate(service: Object, pool: AddressPool, taken: Mapping[str, str], current: Sequence[str]) -> list[str]:
    """The addresses of the pool for a Service: those that it has (``current``) if they will do, or free ones.

    ``taken`` are the addresses of others, each with the Service that has it. Raises ``CloudError`` if none will do.
    """
    wanted = str(service["spec"].get("loadBalancerIP") or "")
    if wanted:
        _check_wanted(wanted, pool, taken, versions_of(service))
    kept = {_version(address): address for address in current if address in pool and address not in taken}
    addresses = []
    for version in versions_of(service):
        if wanted and _version(wanted) == version:
            addresses.append(wanted)
        elif version in pool.versions:
            addresses.append(kept.get(version) or _free(pool, version, taken))
    if not addresses:
        raise CloudError(f"the pool has no addresses of IPv{versions_of(service)[0]}, which the Service asks for")
    return addresses


def _check_wanted(wanted: str, pool: AddressPool, taken: Mapping[str, str], versions: Collection[int]) -> None:
    if wanted not in pool:
        raise CloudError(f"loadBalancerIP {wanted} is not in the pool")
    if _version(wanted) not in versions:
        raise CloudError(f"loadBalancerIP {wanted} is of an IP family that the Service does not have")
    if wanted in taken:
        raise CloudError(f"loadBalancerIP {wanted} is that of Service {taken[wanted]}")


def _free(pool: AddressPool, version: int, taken: Mapping[str, str]) -> str:
    address = next((address for address in pool.addresses(version) if address not in taken), None)
    if address is None:
        raise CloudError(f"the pool has no free address of IPv{version} left")
    return address


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def check_ports(service: Object, taken: Mapping[Port, str], reserved: Mapping[int, str]) -> list[Port]:
    """The ports that a Service wants on the nodes' own addresses. ``taken`` are those of others, each with the Service
    that has it; ``reserved`` those that something on the nodes listens on, with what that is. Raises ``CloudError``."""
    if wanted := service["spec"].get("loadBalancerIP"):
        raise CloudError(f"loadBalancerIP {wanted}: there is no pool of addresses, and the nodes' own cannot be chosen")
    ports = ports_of(service)
    for protocol, number in ports:
        if number in reserved:
            raise CloudError(f"port {number} of the nodes' addresses is for {reserved[number]}; choose another")
        if number in NODE_PORTS:
            raise CloudError(f"port {number} of the nodes' addresses is in the range of node ports; choose another")
        if (protocol, number) in taken:
            holder = taken[protocol, number]
            raise CloudError(f"port {number}/{protocol} of the nodes' addresses is that of Service {holder}")
    return ports


def node_addresses(service: Object, nodes: Iterable[Object]) -> list[str]:
    """An address of each node for each IP family that a Service has: an external one before an internal one."""
    return [
        address for node in nodes for version in versions_of(service) if (address := _address_of(node, version)) != ""
    ]


def _address_of(node: Object, version: int) -> str:
    listed = (node.get("status") or {}).get("addresses") or ()
    for kind in ("ExternalIP", "InternalIP"):
        for entry in listed:
            if entry["type"] == kind and (":" in entry["address"]) == (version == 6):
                return str(entry["address"])
    return ""


def holder_of(service: Object) -> str:
    """How others read who has an address or a port."""
    return key_of(service)
