"""Services: cluster IPs and node ports are allocated when a service needs them, and given back when it does not.

Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
"""

from __future__ import annotations

import contextlib
import ipaddress
import random

from tiphys.api import errors, fielderrors
from tiphys.api.gotext import quote
from tiphys.api.object import Object
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.services.addresspool import AddressPool, AddressTaken, NoAddressLeft, OutOfRange
from tiphys.apiserver.registry.services.families import family_of, keeps_preferred, resolve_families
from tiphys.apiserver.registry.services.fields import (
    allocates_node_ports,
    cluster_ips,
    drop_dependent_fields,
    drop_routing,
    has_node_ports,
    held_ports,
    is_external_name,
    is_headless,
    join_addresses,
    needs_health_port,
    node_ports,
    patch_from_old,
)
from tiphys.apiserver.registry.services.portpool import NoPortLeft, PortPool, PortTaken
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write
from tiphys.apiserver.storage.objects import Stale

_TAKEN = "provided port is already allocated"
_MADE_UP = 32768


class Allocation:
    """What one write allocates, and what it releases once it is done."""

    def __init__(self, strategy: ServiceStrategy, *, dry_run: bool) -> None:
        self._strategy = strategy
        self.dry_run = dry_run
        self.taken: list[str] = []
        self.ports: list[int] = []
        self.dropped: list[str] = []
        self.dropped_ports: list[int] = []

    async def finish(self, *, done: bool) -> None:
        if self.dry_run:
            return
        await self._strategy.release(self.dropped if done else self.taken, self.dropped_ports if done else self.ports)


class ServiceStrategy(Strategy):
    has_status = True
    initial_status: Object | None = {"loadBalancer": {}}
    create_on_update = True
    returns_deleted = True

    def __init__(self, gvk: GroupVersionKind, config: Config, registries: Registries) -> None:
        super().__init__(gvk)
        self._registries = registries
        generator = random.Random(config.seed)
        networks = [ipaddress.ip_network(text) for text in config.service_cluster_ip_ranges]
        self.pools = {f"IPv{n.version}": AddressPool(registries, n, generator) for n in networks}
        self.families = tuple(self.pools)
        first, last = config.service_node_ports
        self.ports = PortPool(
            backend=registries.feed.backend, root=config.storage_root, first=first, last=last, generator=generator
        )

    # -- create

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        allocation = Allocation(self, dry_run=write.dry_run)
        join_addresses(obj, None)
        try:
            resolve_families(obj, None, self.families)
            await self._allocate_addresses(obj, allocation)
            if has_node_ports(obj):
                await self._make_node_ports(obj, allocation)
            if needs_health_port(obj):
                await self._take_health_port(obj, allocation)
        except errors.StatusError:
            await allocation.finish(done=False)
            raise
        return allocation.finish

    # -- update

    def prepare_create(self, obj: Object, write: Write) -> None:
        super().prepare_create(obj, write)
        drop_routing(obj)

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_update(new, old, write)
        drop_dependent_fields(new, old)
        drop_routing(new)
        if new["spec"].get("type") != "LoadBalancer":
            new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}

    async def begin_update(self, new: Object, old: Object, write: Write) -> Finish:
        allocation = Allocation(self, dry_run=write.dry_run)
        patch_from_old(new, old)
        join_addresses(new, old)
        try:
            resolve_families(new, old, self.families)
            await self._update_addresses(new, old, allocation)
            await self._update_ports(new, old, allocation)
        except errors.StatusError:
            await allocation.finish(done=False)
            raise
        return allocation.finish

    # -- addresses

    async def _update_addresses(self, new: Object, old: Object, allocation: Allocation) -> None:
        if keeps_preferred(new, old):
            return
        if is_external_name(old):
            await self._allocate_addresses(new, allocation)
        elif is_headless(old):
            return
        elif is_external_name(new):
            allocation.dropped += cluster_ips(old)
        else:
            await self._change_families(new, old, allocation)

    async def _change_families(self, new: Object, old: Object, allocation: Allocation) -> None:
        """A second family adds its own address, and its removal releases it."""
        families, before = new["spec"].get("ipFamilies") or [], old["spec"].get("ipFamilies") or []
        if len(before) == 1 and len(families) == 2:
            addresses = [*(new["spec"].get("clusterIPs") or ()), ""][:2]
            new["spec"]["clusterIPs"] = addresses
            addresses[1] = await self._take(new, families[1], addresses[1], allocation)
        elif len(before) == 2 and len(families) == 1:
            allocation.dropped.append(old["spec"]["clusterIPs"][1])

    async def _allocate_addresses(self, obj: Object, allocation: Allocation) -> None:
        """An address of each family; those that the user names, if they are free."""
        spec = obj["spec"]
        addresses = list(spec.get("clusterIPs") or ())
        if is_external_name(obj) or addresses[:1] == ["None"]:
            return
        families = spec["ipFamilies"]
        addresses += [""] * (len(families) - len(addresses))
        spec["clusterIPs"] = addresses
        for index, family in enumerate(families):
            addresses[index] = await self._take(obj, family, addresses[index], allocation)
        spec["clusterIP"] = addresses[0]

    async def _take(self, obj: Object, family: str, wanted: str, allocation: Allocation) -> str:
        meta, pool = obj["metadata"], self.pools.get(family)
        if pool is None:  # only a headless service can come to be here, by an update that gives it an address
            raise errors.internal(f"{family} is not configured on this cluster")
        place = (meta.get("namespace", ""), meta.get("name", ""))
        try:
            if wanted:
                await pool.take(wanted, *place, dry_run=allocation.dry_run)
                address = wanted
            else:
                address = await pool.allocate(*place, dry_run=allocation.dry_run)
        except OutOfRange as error:
            raise _no_address(obj, f" {wanted}: {error}") from None
        except AddressTaken:
            raise _no_address(obj, f" {wanted}: provided IP is already allocated") from None
        except NoAddressLeft:
            text = f"failed to allocate a serviceIP for Service {quote(meta.get('name', ''))}: range is full"
            raise errors.internal(text) from None
        allocation.taken.append(address)
        return address

    # -- ports

    async def _make_node_ports(self, obj: Object, allocation: Allocation) -> None:
        """One number may serve several protocols of the same port."""
        ports = obj["spec"].get("ports") or []
        chosen: dict[int, int] = {}
        for index, port in enumerate(ports):
            own, number = port.get("nodePort", 0), port["port"]
            if not own and not allocates_node_ports(obj):
                continue
            if number not in chosen:
                wanted = next((p["nodePort"] for p in ports if p["port"] == number and p.get("nodePort")), 0)
                chosen[number] = await self._take_node_port(obj, index, wanted, allocation)
                port["nodePort"] = chosen[number]
            elif not own:
                port["nodePort"] = chosen[number]
            elif own != chosen[number]:
                await self._take_node_port(obj, index, own, allocation)

    async def _update_ports(self, new: Object, old: Object, allocation: Allocation) -> None:
        if has_node_ports(new):
            await self._change_node_ports(new, old, allocation)
        elif has_node_ports(old):
            allocation.dropped_ports += node_ports(old)
        if needs_health_port(new) and not needs_health_port(old):
            await self._take_health_port(new, allocation)
        elif needs_health_port(old) and not needs_health_port(new):
            allocation.dropped_ports.append(old["spec"].get("healthCheckNodePort", 0))

    async def _change_node_ports(self, new: Object, old: Object, allocation: Allocation) -> None:
        before = node_ports(old)
        seen: set[tuple[str, int]] = set()
        for index, port in enumerate(new["spec"].get("ports") or ()):
            own = port.get("nodePort", 0)
            if not own and not allocates_node_ports(new):
                continue
            if not own:
                own = port["nodePort"] = await self._take_node_port(new, index, 0, allocation)
            elif own not in before and own not in allocation.ports:
                await self._take_node_port(new, index, own, allocation)
            pair = (port.get("protocol", ""), own)
            if pair in seen:
                raise errors.from_code(500, f"duplicate nodePort: {{{pair[0]} {pair[1]}}}")
            seen.add(pair)
        after = node_ports(new)
        allocation.dropped_ports += [port for port in before if port not in after]

    async def _take_node_port(self, obj: Object, index: int, wanted: int, allocation: Allocation) -> int:
        try:
            return await self._take_port(wanted, allocation)
        except PortTaken as error:
            refused = fielderrors.invalid(f"spec.ports[{index}].nodePort", wanted, str(error))
            raise errors.invalid("", "Service", obj["metadata"].get("name", ""), [refused]) from None
        except NoPortLeft:
            raise errors.internal("failed to allocate a nodePort: range is full") from None

    async def _take_health_port(self, obj: Object, allocation: Allocation) -> None:
        wanted = obj["spec"].get("healthCheckNodePort", 0)
        try:
            obj["spec"]["healthCheckNodePort"] = await self._take_port(wanted, allocation)
        except PortTaken as error:
            text = f"failed to allocate requested HealthCheck NodePort {wanted}: {error}"
            raise errors.internal(text) from None
        except NoPortLeft:
            raise errors.internal("failed to allocate a HealthCheck NodePort 0: range is full") from None

    async def _take_port(self, wanted: int, allocation: Allocation) -> int:
        """A port, any free one for 0. Raises ``PortTaken`` and ``NoPortLeft``, whose texts say why."""
        if allocation.dry_run:
            port = await self._pretend(wanted, allocation.ports)
        elif wanted and not self.ports.holds(wanted):
            valid = f"{self.ports.first}-{self.ports.last}"
            raise PortTaken(f"provided port is not in the valid range. The range of valid ports is {valid}")
        else:
            try:
                port = await self.ports.allocate(wanted)
            except PortTaken:
                raise PortTaken(_TAKEN) from None
        allocation.ports.append(port)
        return port

    async def _pretend(self, wanted: int, taken: list[int]) -> int:
        """The port that a dry run shows: the wanted one, or one that upstream makes up."""
        if not wanted:
            return max(taken, default=_MADE_UP) + 1
        if wanted in taken or wanted in await self.ports.taken():
            raise PortTaken(_TAKEN)
        return wanted

    # -- release

    async def release(self, addresses: list[str], ports: list[int]) -> None:
        for address in addresses:
            pool = self.pools.get(family_of(address))
            if pool is not None:
                await pool.release(address)
        if ports:
            await self.ports.release(ports)

    async def deleted(self, obj: Object) -> None:
        await self.release(cluster_ips(obj), held_ports(obj))
        await self._delete_endpoints(obj["metadata"])

    async def _delete_endpoints(self, meta: Object) -> None:
        """At once, so that a new service of the same name does not find them."""
        store = self._registries.get("", "endpoints").store
        entry = await store.get(meta["namespace"], meta["name"])
        if entry is not None:
            with contextlib.suppress(Stale):  # somebody has written them just now: their controller will see to them
                await store.delete(entry.key, entry)


def _no_address(obj: Object, reason: str) -> errors.StatusError:
    addresses = obj["spec"].get("clusterIPs")
    error = fielderrors.invalid("spec.clusterIPs", addresses, f"failed to allocate IP{reason}")
    return errors.invalid("", "Service", obj["metadata"].get("name", ""), [error])
