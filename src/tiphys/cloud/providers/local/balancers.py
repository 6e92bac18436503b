"""Load balancers without a cloud, as ``LoadBalancers`` of a provider.

Who has what is known from the Services' statuses, which are read once; after that it is kept here, as nobody else gives
addresses of these out. Nothing is awaited between a decision and its record.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.addresspools import AddressPool
from tiphys.api.meta.objects import uid_of
from tiphys.api.object import Object
from tiphys.client.resources import SERVICES
from tiphys.client.rest import Client
from tiphys.cloud.provider import CloudError, RetryAfter
from tiphys.cloud.providers.local.allocation import (
    Port,
    allocate,
    check_ports,
    holder_of,
    node_addresses,
    ports_of,
    shown_addresses,
    status_of,
)
from tiphys.cloud.services import wants_load_balancer

AGAIN_SECONDS = 15.0
"""When a Service that got nothing is looked at again: another may have given up what it wants."""


@dataclass(slots=True)
class _Holding:
    """What one Service has."""

    holder: str
    addresses: list[str] = field(default_factory=list)
    ports: list[Port] = field(default_factory=list)


class _Holdings:
    """What each Service has, by its uid."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, _Holding] = {}
        self._read = asyncio.Lock()
        self._is_read = False

    async def read(self) -> None:
        """Begin with what Services have had, before any is given something else."""
        async with self._read:
            if self._is_read:
                return
            listed = await self._client.list(SERVICES, field_selector="spec.type=LoadBalancer")
            for service in listed.get("items") or ():
                if wants_load_balancer(service) and (addresses := shown_addresses(service)):
                    self._known.setdefault(uid_of(service), _Holding(holder_of(service), addresses, ports_of(service)))
            self._is_read = True

    def of(self, service: Object) -> _Holding | None:
        return self._known.get(uid_of(service))

    def others(self, service: Object) -> list[_Holding]:
        return [holding for uid, holding in self._known.items() if uid != uid_of(service)]

    def put(self, service: Object, addresses: list[str], ports: list[Port]) -> None:
        self._known[uid_of(service)] = _Holding(holder_of(service), addresses, ports)

    def remove(self, service: Object) -> None:
        self._known.pop(uid_of(service), None)


class PoolBalancers:
    """Each Service has addresses of the pool for itself; the nodes' proxies announce them and carry the traffic."""

    def __init__(self, client: Client, pool: AddressPool) -> None:
        self._pool, self._holdings = pool, _Holdings(client)

    async def get(self, cluster: str, service: Object) -> Object | None:
        await self._holdings.read()
        holding = self._holdings.of(service)
        return None if holding is None else status_of(holding.addresses)

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        await self._holdings.read()
        holding = self._holdings.of(service)
        taken = {address: other.holder for other in self._holdings.others(service) for address in other.addresses}
        try:
            addresses = allocate(service, self._pool, taken, holding.addresses if holding else ())
        except CloudError as error:
            raise RetryAfter(str(error), AGAIN_SECONDS) from error
        self._holdings.put(service, addresses, [])
        return status_of(addresses)

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> None:
        """Which nodes there are, the nodes find out for themselves."""
        if await self.get(cluster, service) is None:
            raise CloudError("no address was given to the Service")

    async def delete(self, cluster: str, service: Object) -> None:
        await self._holdings.read()
        self._holdings.remove(service)


class NodeBalancers:
    """Every Service has the addresses of all nodes, and its ports there. ``reserved`` are ports that no Service gets,
    each with what it is for."""

    def __init__(self, client: Client, reserved: Mapping[int, str]) -> None:
        self._reserved, self._holdings = reserved, _Holdings(client)

    async def get(self, cluster: str, service: Object) -> Object | None:
        await self._holdings.read()
        holding = self._holdings.of(service)
        return None if holding is None else status_of(holding.addresses)

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        await self._holdings.read()
        taken = {port: other.holder for other in self._holdings.others(service) for port in other.ports}
        try:
            ports = check_ports(service, taken, self._reserved)
        except CloudError as error:
            raise RetryAfter(str(error), AGAIN_SECONDS) from error
        addresses = node_addresses(service, nodes)
        self._holdings.put(service, addresses, ports)
        return status_of(addresses)

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        await self._holdings.read()
        holding = self._holdings.of(service)
        if holding is None:
            raise CloudError("no address was given to the Service")
        holding.addresses = node_addresses(service, nodes)
        return status_of(holding.addresses)

    async def delete(self, cluster: str, service: Object) -> None:
        await self._holdings.read()
        self._holdings.remove(service)
