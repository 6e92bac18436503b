"""Cluster IPs: an address is taken by creating the IPAddress object that has its name, so that any number of API
servers can share the range. ServiceCIDR objects add ranges while the cluster runs.
Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-assignment-tracking
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.apiserver.registry import creating
from tiphys.apiserver.registry.making import owned, prepared
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.objects import Exists, Stale

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GROUP = "networking.k8s.io"
_FAMILY, _MANAGED_BY = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
_ATTEMPTS = 200
_MAX_OFFSET = 1 << 32


class AddressTaken(Exception):
    """The address is allocated already."""


class OutOfRange(Exception):
    """The address is in none of the ranges; the text says so."""


class NoAddressLeft(Exception):
    """No free address was found."""


@dataclass(frozen=True, slots=True)
class Span:
    """One range. Its first addresses are left to those who ask for one by name (DNS and the like)."""

    network: Network

    @property
    def size(self) -> int:
        """How many addresses can be given."""
        whole = min(self.network.num_addresses, _MAX_OFFSET)
        return whole - (2 if self.network.version == 4 else 1)

    @property
    def reserved(self) -> int:
        return min(max(16, self.size // 16), 256) if self.size > 32 else 0

    def holds(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether it can be given: not the range's own address nor, for IPv4, that of all."""
        last = self.network.broadcast_address if self.network.version == 4 else None
        return address in self.network and address not in (self.network.network_address, last)

    def random(self, generator: random.Random) -> str:
        """An address that is not one of the first."""
        free = max(self.size - self.reserved, 1)
        return str(self.network[1 + self.reserved + generator.randrange(free)])

    def all(self) -> Iterator[str]:
        """Every address, the reserved ones last."""
        for offset in (*range(1 + self.reserved, self.size + 1), *range(1, 1 + self.reserved)):
            yield str(self.network[offset])


class AddressPool:
    """The addresses of one family: those of the server's own range, and of every other ServiceCIDR that is ready."""

    def __init__(self, registries: Registries, network: Network, generator: random.Random) -> None:
        self.network = network
        self.family = f"IPv{network.version}"
        self._own = Span(network)
        self._registries = registries
        self._random = generator

    def first(self) -> str:
        """The first usable address: that of the service ``kubernetes``."""
        return str(self.network[1])

    async def allocate(self, namespace: str, service: str, *, dry_run: bool) -> str:
        """Take any free address. Raises ``NoAddressLeft``."""
        for span in await self._spans():
            address = await self._allocate_from(span, namespace, service, dry_run=dry_run)
            if address is not None:
                return address
        raise NoAddressLeft

    async def _allocate_from(self, span: Span, namespace: str, service: str, *, dry_run: bool) -> str | None:
        """Try a few at random; if the range is nearly full, look at every one."""
        for _ in range(_ATTEMPTS):
            address = span.random(self._random)
            if await self._claimed(address, namespace, service, dry_run=dry_run):
                return address
        taken = {entry.name for entry in await self._registries.get(GROUP, "ipaddresses").all()}
        for address in span.all():
            if address not in taken and await self._claimed(address, namespace, service, dry_run=dry_run):
                return address
        return None

    async def _claimed(self, address: str, namespace: str, service: str, *, dry_run: bool) -> bool:
        try:
            await self._claim(address, namespace, service, dry_run=dry_run)
        except AddressTaken:
            return False
        return True

    async def take(self, address: str, namespace: str, service: str, *, dry_run: bool) -> None:
        """Take one address; a dry run only looks whether it is in range. Raises ``OutOfRange``, ``AddressTaken``."""
        wanted = ipaddress.ip_address(address)
        if dry_run:
            if not self._own.holds(wanted):
                span = f"The range of valid IPs is {self.network}"
                raise OutOfRange(f"the provided IP ({address}) is not in the valid range. {span}")
        elif any(span.holds(wanted) for span in await self._spans()):
            await self._claim(address, namespace, service, dry_run=dry_run)
        else:
            raise OutOfRange("the provided network does not match the current range")

    async def _spans(self) -> list[Span]:
        registry = self._registries.get(GROUP, "servicecidrs")
        entries = await registry.all()
        if len(entries) <= 1:  # the one that stands for the server's own range
            return [self._own]
        objects = [registry.object(entry) for entry in entries]
        networks = [n for n in ready_networks(objects) if n.version == self.network.version and n != self.network]
        return [self._own, *(Span(network) for network in networks)]

    async def _claim(self, address: str, namespace: str, service: str, *, dry_run: bool) -> None:
        registry = self._registries.get(GROUP, "ipaddresses")
        key = registry.store.key("", address)
        if dry_run:
            if await registry.store.get("", address) is not None:
                raise AddressTaken(address)
            return
        write = registry.write_context()
        obj = _object(address, self.family, namespace, service)
        creating.fill_system_fields(registry, obj["metadata"], write)
        owned(registry, None, prepared(registry, obj), write)
        try:
            await registry.store.create(key, obj)
        except Exists:
            raise AddressTaken(address) from None

    async def release(self, address: str) -> None:
        registry = self._registries.get(GROUP, "ipaddresses")
        entry = await registry.store.get("", address)
        if entry is None:
            return
        try:
            await registry.store.delete(entry.key, entry)
        except Stale:
            return  # somebody else has changed it: it is theirs now


def ready_networks(cidrs: Iterable[Object]) -> list[Network]:
    """The ranges of the ServiceCIDRs that may be allocated from, each once, in the order of the objects' names."""
    networks: dict[Network, None] = {}
    for cidr in sorted(cidrs, key=lambda cidr: str(cidr["metadata"]["name"])):
        conditions = (cidr.get("status") or {}).get("conditions") or ()
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        if ready and not cidr["metadata"].get("deletionTimestamp"):
            networks |= dict.fromkeys(
                ipaddress.ip_network(text, strict=False) for text in cidr["spec"].get("cidrs") or ()
            )
    return list(networks)


def _object(address: str, family: str, namespace: str, service: str) -> Object:
    return {
        "kind": "IPAddress",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": address, "labels": {_FAMILY: family, _MANAGED_BY: "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }
