"""Keeps what is allocated and what services have the same, after a crash between the two or a meddling hand.

What a service has is allocated at once. What is allocated and belongs to no service is given back only when it was
seen so several times in a row, as a service in the making has its addresses before it is written.

Source: https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

from tiphys.api.object import Object
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.services.addresspool import GROUP, AddressTaken, OutOfRange
from tiphys.apiserver.registry.services.families import family_of
from tiphys.apiserver.registry.services.fields import cluster_ips, held_ports
from tiphys.apiserver.registry.services.services import ServiceStrategy

log = logging.getLogger(__name__)


SIGHTINGS = 3


class Leaks:
    """Counts how often in a row something was found to belong to nobody."""

    def __init__(self) -> None:
        self._seen: Counter[Any] = Counter()

    def confirmed(self, leaked: Iterable[Any]) -> list[Any]:
        """The leaked items that have been so for long enough; counts of all others are reset."""
        self._seen = Counter({item: self._seen[item] + 1 for item in leaked})
        return [item for item, times in self._seen.items() if times >= SIGHTINGS]


class Report(Protocol):
    def __call__(self, obj: Object, reason: str, message: str, *, action: str) -> None:
        """A warning about ``obj``, which has kind and apiVersion or is a reference."""


def _silent(obj: Object, reason: str, message: str, *, action: str) -> None:
    """For who wants no events."""


class ServiceRepair:
    def __init__(self, registries: Registries, report: Report = _silent) -> None:
        self._registries = registries
        self._report = report
        self._addresses = Leaks()
        self._ports = Leaks()

    async def repair(self) -> None:
        """One look at all services."""
        registry = self._registries.get("", "services")
        strategy = registry.strategy
        assert isinstance(strategy, ServiceStrategy)
        addresses = self._registries.get(GROUP, "ipaddresses")
        await addresses.all()
        if registry.store.cacher.unreadable or addresses.store.cacher.unreadable:
            log.warning("addresses and ports are not repaired while some service cannot be read")
            return
        services = [registry.object(entry) for entry in await registry.all()]
        await self._repair_addresses(strategy, services)
        await self._repair_ports(strategy, services)

    async def _repair_addresses(self, strategy: ServiceStrategy, services: list[Object]) -> None:
        holders = {address: service["metadata"] for service in services for address in cluster_ips(service)}
        allocated = await self._allocated()
        for address in holders.keys() - allocated.keys():
            await self._claim(strategy, address, holders[address])
        stray = [address for address, holder in allocated.items() if _name_of(holders.get(address)) != holder]
        gone = self._addresses.confirmed(stray)
        for address in gone:
            self._stray_address(address, "/".join(allocated[address]), leaked=address not in holders)
        await strategy.release(gone, [])

    async def _claim(self, strategy: ServiceStrategy, address: str, meta: Object) -> None:
        family = family_of(address)
        place = f"Cluster IP [{family}]: {address}"
        pool = strategy.pools.get(family)
        if pool is None:
            return
        self._of_service(meta, "ClusterIPNotAllocated", f"{place} is not allocated; repairing", "ClusterIPAllocation")
        try:
            await pool.take(address, meta["namespace"], meta["name"], dry_run=False)
        except AddressTaken:
            return  # another server has repaired it
        except OutOfRange:
            text = f"{place} is not within any configured Service CIDR; please recreate service"
            self._of_service(meta, "ClusterIPOutOfRange", text, "ClusterIPAllocation")

    def _stray_address(self, address: str, service: str, *, leaked: bool) -> None:
        what = "appears to have leaked" if leaked else "has a wrong reference"
        text = f"IPAddress: {address} for Service {service} {what}: cleaning up"
        obj = {"kind": "IPAddress", "apiVersion": f"{GROUP}/v1", "name": address}
        reason = "IPAddressNotAllocated" if leaked else "IPAddressWrongReference"
        self._report(
            obj, reason, text if leaked else text.replace(": cleaning", "; cleaning"), action="IPAddressAllocation"
        )

    def _of_service(self, meta: Object, reason: str, message: str, action: str) -> None:
        names: Object = {key: meta[key] for key in ("namespace", "name", "uid") if key in meta}
        self._report({"kind": "Service", "apiVersion": "v1", **names}, reason, message, action=action)

    async def _allocated(self) -> dict[str, tuple[str, str]]:
        """The addresses that were allocated for services, and for which."""
        registry = self._registries.get(GROUP, "ipaddresses")
        addresses = {}
        for entry in await registry.all():
            parent = registry.object(entry)["spec"].get("parentRef") or {}
            if parent.get("resource") == "services" and not parent.get("group"):
                addresses[entry.name] = (parent.get("namespace", ""), parent.get("name", ""))
        return addresses

    async def _repair_ports(self, strategy: ServiceStrategy, services: list[Object]) -> None:
        used = {port for service in services for port in held_ports(service)}
        taken = await strategy.ports.taken()
        if missing := used - taken:
            for service in services:
                for port in missing.intersection(held_ports(service)):
                    text = f"Port {port} is not allocated; repairing"
                    self._of_service(service["metadata"], "PortNotAllocated", text, "PortAllocation")
            await strategy.ports.mark(missing)
        await strategy.ports.release(self._ports.confirmed(taken - used))


def _name_of(meta: Object | None) -> tuple[str, str] | None:
    return None if meta is None else (meta["namespace"], meta["name"])
