"""Cluster IPs: an address is taken by creating the IPAddress object that has its name, so that any number of API
servers can share the range. Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-assignment-tracking
"""

from __future__ import annotations

import ipaddress
import random
from typing import Any

from tiphys.apiserver.registry import creating
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.objects import Exists, Stale

Object = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

GROUP = "networking.k8s.io"
_FAMILY, _MANAGED_BY = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
_ATTEMPTS = 200
_MAX_OFFSET = 1 << 32


class AddressTaken(Exception):
    """The address is allocated already."""


class OutOfRange(Exception):
    """The address is in none of the ranges."""


class NoAddressLeft(Exception):
    """No free address was found."""


class AddressPool:
    """The addresses of one family. The first ones are left to those who ask for one by name (DNS and the like)."""

    def __init__(self, registries: Registries, network: Network, generator: random.Random) -> None:
        self.network = network
        self.family = f"IPv{network.version}"
        self._registries = registries
        self._random = generator
        self._size = min(network.num_addresses, _MAX_OFFSET) - (2 if network.version == 4 else 1)
        self._reserved = min(max(16, self._size // 16), 256) if self._size > 32 else 0

    def first(self) -> str:
        """The first usable address: that of the service ``kubernetes``."""
        return str(self.network[1])

    async def allocate(self, namespace: str, service: str, dry_run: bool) -> str:
        """Take any free address. Raises ``NoAddressLeft``."""
        for _ in range(_ATTEMPTS):
            offset = 1 + self._reserved + self._random.randrange(max(self._size - self._reserved, 1))
            address = str(self.network[offset])
            try:
                await self._claim(address, namespace, service, dry_run)
            except AddressTaken:
                continue
            return address
        return await self._search(namespace, service, dry_run)

    async def _search(self, namespace: str, service: str, dry_run: bool) -> str:
        """The range is nearly full: look at every address, the reserved ones last."""
        taken = {entry.name for entry in await self._registries.get(GROUP, "ipaddresses").all()}
        offsets = [*range(1 + self._reserved, self._size + 1), *range(1, 1 + self._reserved)]
        for offset in offsets:
            address = str(self.network[offset])
            if address in taken:
                continue
            try:
                await self._claim(address, namespace, service, dry_run)
            except AddressTaken:
                continue
            return address
        raise NoAddressLeft

    async def take(self, address: str, namespace: str, service: str, dry_run: bool) -> None:
        """Take one address. Raises ``OutOfRange``, ``AddressTaken``."""
        if ipaddress.ip_address(address) not in self.network:
            raise OutOfRange(address)
        await self._claim(address, namespace, service, dry_run)

    async def _claim(self, address: str, namespace: str, service: str, dry_run: bool) -> None:
        registry = self._registries.get(GROUP, "ipaddresses")
        key = registry.store.key("", address)
        if dry_run:
            if await registry.store.get("", address) is not None:
                raise AddressTaken(address)
            return
        write = registry.write()
        obj = _object(address, self.family, namespace, service)
        creating.fill_system_fields(registry, obj["metadata"], write)
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


def _object(address: str, family: str, namespace: str, service: str) -> Object:
    return {
        "kind": "IPAddress",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": address, "labels": {_FAMILY: family, _MANAGED_BY: "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }
