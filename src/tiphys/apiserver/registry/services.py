"""Services: cluster IPs and node ports are allocated when a service needs them, and given back when it does not.

Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
"""

from __future__ import annotations

import ipaddress
import random
from typing import Any

from tiphys.api import errors, fielderrors
from tiphys.api.scheme import GroupVersionKind
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.addresspool import AddressPool, AddressTaken, NoAddressLeft, OutOfRange
from tiphys.apiserver.registry.portpool import NoPortLeft, PortPool, PortTaken
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.servicefamilies import is_headless, resolve_families
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write

Object = dict[str, Any]

_NODE_PORT_TYPES = ("NodePort", "LoadBalancer")


class Allocation:
    """What one write has taken, and what it lets go once it is done."""

    def __init__(self, strategy: ServiceStrategy, dry_run: bool) -> None:
        self._strategy = strategy
        self.dry_run = dry_run
        self.taken: list[str] = []
        self.ports: list[int] = []
        self.dropped: list[str] = []
        self.dropped_ports: list[int] = []

    async def finish(self, done: bool) -> None:
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
        generator = random.Random(config.seed)
        networks = [ipaddress.ip_network(text) for text in config.service_cluster_ip_ranges]
        self.pools = {f"IPv{n.version}": AddressPool(registries, n, generator) for n in networks}
        self.families = tuple(self.pools)
        first, last = config.service_node_ports
        self.ports = PortPool(registries.feed.backend, config.storage_root, first, last, generator)

    # -- create

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        allocation = Allocation(self, write.dry_run)
        spec = obj["spec"]
        if spec.get("clusterIP") and not spec.get("clusterIPs"):  # clients that know only the one address
            spec["clusterIPs"] = [spec["clusterIP"]]
        try:
            resolve_families(obj, None, self.families)
            await self._allocate_addresses(obj, allocation)
            await self._allocate_ports(obj, None, allocation)
        except errors.StatusError:
            await allocation.finish(False)
            raise
        return allocation.finish

    # -- update

    def prepare_update(self, new: Object, old: Object, write: Write) -> None:
        super().prepare_update(new, old, write)
        drop_dependent_fields(new, old)
        if new["spec"].get("type") != "LoadBalancer":
            new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}

    async def begin_update(self, new: Object, old: Object, write: Write) -> Finish:
        allocation = Allocation(self, write.dry_run)
        patch_from_old(new, old)
        try:
            resolve_families(new, old, self.families)
            await self._update_addresses(new, old, allocation)
            await self._allocate_ports(new, old, allocation)
        except errors.StatusError:
            await allocation.finish(False)
            raise
        return allocation.finish

    async def _update_addresses(self, new: Object, old: Object, allocation: Allocation) -> None:
        before = cluster_ips(old)
        if new["spec"].get("type") == "ExternalName":
            allocation.dropped += before
            return
        if not is_headless(new):
            await self._allocate_addresses(new, allocation, known=before)
        after = new["spec"].get("clusterIPs") or []
        if not before or after[:1] == before[:1]:
            allocation.dropped += [ip for ip in before if ip not in after]

    # -- addresses

    async def _allocate_addresses(self, obj: Object, allocation: Allocation, known: list[str] | None = None) -> None:
        """An address of each family; those that the user names, where they are free."""
        spec = obj["spec"]
        if spec.get("type") == "ExternalName" or is_headless(obj):
            return
        addresses = list(spec.get("clusterIPs") or ())
        for index, family in enumerate(spec["ipFamilies"]):
            wanted = addresses[index] if index < len(addresses) else ""
            if wanted in (known or ()) or not _may_be_address(wanted):
                continue
            address = await self._take(obj, family, wanted, allocation)
            addresses[index:] = [address, *addresses[index + 1 :]]
        spec["clusterIPs"] = addresses
        if addresses:
            spec["clusterIP"] = addresses[0]

    async def _take(self, obj: Object, family: str, wanted: str, allocation: Allocation) -> str:
        meta, pool = obj["metadata"], self.pools[family]
        place = (meta.get("namespace", ""), meta.get("name", ""), allocation.dry_run)
        try:
            if wanted:
                await pool.take(wanted, *place)
                address = wanted
            else:
                address = await pool.allocate(*place)
        except OutOfRange:
            raise _no_address(obj, f" {wanted}: the provided network does not match the current range") from None
        except AddressTaken:
            raise _no_address(obj, f" {wanted}: provided IP is already allocated") from None
        except NoAddressLeft:
            raise _no_address(obj, ": range is full") from None
        allocation.taken.append(address)
        return address

    # -- ports

    async def _allocate_ports(self, new: Object, old: Object | None, allocation: Allocation) -> None:
        before = node_ports(old) if old is not None else []
        if _needs_node_ports(new):
            await self._fill_node_ports(new, before, allocation)
        health = await self._health_port(new, old, allocation)
        kept = {health, *(node_ports(new) if _needs_node_ports(new) else ())}
        allocation.dropped_ports += [port for port in before if port not in kept]

    async def _fill_node_ports(self, new: Object, before: list[int], allocation: Allocation) -> None:
        """One port number may serve two protocols of the same service."""
        by_port: dict[int, int] = {}
        for index, port in enumerate(new["spec"].get("ports") or ()):
            wanted = port.get("nodePort") or by_port.get(port["port"], 0)
            if not wanted or (wanted not in before and wanted not in allocation.ports):
                wanted = await self._take_port(new, f"spec.ports[{index}].nodePort", wanted, allocation)
            port["nodePort"] = by_port[port["port"]] = wanted

    async def _health_port(self, new: Object, old: Object | None, allocation: Allocation) -> int:
        spec = new["spec"]
        needed = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
        before: int = (old or {}).get("spec", {}).get("healthCheckNodePort") or 0
        if not needed:
            if before and before == spec.get("healthCheckNodePort"):
                spec.pop("healthCheckNodePort")
            return 0
        if before:
            spec.setdefault("healthCheckNodePort", before)
            return before
        wanted = spec.get("healthCheckNodePort") or 0
        spec["healthCheckNodePort"] = await self._take_port(new, "spec.healthCheckNodePort", wanted, allocation)
        return int(spec["healthCheckNodePort"])

    async def _take_port(self, obj: Object, field: str, wanted: int, allocation: Allocation) -> int:
        name, pool = obj["metadata"].get("name", ""), self.ports
        if wanted and not pool.holds(wanted):
            text = f"provided port is not in the valid range. The range of valid ports is {pool.first}-{pool.last}"
            raise errors.invalid("", "Service", name, [fielderrors.invalid(field, wanted, text)])
        if allocation.dry_run:
            return wanted or pool.first
        try:
            port = await pool.allocate(wanted)
        except PortTaken:
            error = fielderrors.invalid(field, wanted, "provided port is already allocated")
            raise errors.invalid("", "Service", name, [error]) from None
        except NoPortLeft:
            raise errors.internal("failed to allocate a nodePort: range is full") from None
        allocation.ports.append(port)
        return port

    # -- release

    async def release(self, addresses: list[str], ports: list[int]) -> None:
        for address in addresses:
            pool = self.pool_of(address)
            if pool is not None:
                await pool.release(address)
        if ports:
            await self.ports.release(ports)

    def pool_of(self, address: str) -> AddressPool | None:
        return self.pools.get(f"IPv{ipaddress.ip_address(address).version}")

    async def deleted(self, obj: Object) -> None:
        await self.release(cluster_ips(obj), node_ports(obj))


def _no_address(obj: Object, reason: str) -> errors.StatusError:
    addresses = obj["spec"].get("clusterIPs")
    error = fielderrors.invalid("spec.clusterIPs", addresses, f"failed to allocate IP{reason}")
    return errors.invalid("", "Service", obj["metadata"].get("name", ""), [error])


def _may_be_address(text: str) -> bool:
    """Whether it is empty, or an address; anything else is left to validation."""
    try:
        ipaddress.ip_address(text or "0.0.0.0")
    except ValueError:
        return False
    return True


def _needs_node_ports(service: Object) -> bool:
    spec = service["spec"]
    if spec.get("type") == "LoadBalancer":
        return bool(spec.get("allocateLoadBalancerNodePorts", True))
    return bool(spec.get("type") == "NodePort")


def cluster_ips(service: Object) -> list[str]:
    return [address for address in service["spec"].get("clusterIPs") or () if address != "None"]


def node_ports(service: Object) -> list[int]:
    spec = service["spec"]
    found = [port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(spec["healthCheckNodePort"])
    return found


def patch_from_old(new: Object, old: Object) -> None:
    """An update that leaves out what the server has allocated keeps it."""
    spec, before = new["spec"], old["spec"]
    if spec.get("type") != "ExternalName" and before.get("type") != "ExternalName":
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            for name in ("clusterIP", "clusterIPs"):
                if name in before:
                    spec[name] = list(before[name]) if name == "clusterIPs" else before[name]
        elif spec.get("clusterIP") and not spec.get("clusterIPs"):
            same = spec["clusterIP"] == before.get("clusterIP")
            spec["clusterIPs"] = list(before["clusterIPs"]) if same else [spec["clusterIP"]]
    if _needs_node_ports(new) and _needs_node_ports(old):
        known = {_port_key(p): p["nodePort"] for p in before.get("ports") or () if p.get("nodePort")}
        used = {p.get("nodePort") for p in spec.get("ports") or ()}
        for port in spec.get("ports") or ():
            number = known.get(_port_key(port))
            if not port.get("nodePort") and number and number not in used:
                port["nodePort"] = number


def _port_key(port: Object) -> tuple[str, int]:
    return port.get("protocol", "TCP"), port["port"]


def drop_dependent_fields(new: Object, old: Object) -> None:
    """When the type changes, fields that only the former type has, and that the user left as they were, go with it."""
    spec, before = new["spec"], old["spec"]
    had_ports, has_ports = _needs_node_ports(old), _needs_node_ports(new)
    if had_ports and not has_ports and _same_node_ports(spec, before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if spec.get("type") == "ExternalName" and before.get("type") != "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
    if spec.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"):
            if spec.get(name) == before.get(name):
                spec.pop(name, None)
    external = spec.get("type") in _NODE_PORT_TYPES or spec.get("externalIPs")
    if not external and spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy"):
        spec.pop("externalTrafficPolicy", None)


def _same_node_ports(spec: Object, before: Object) -> bool:
    then = {port.get("nodePort") for port in before.get("ports") or ()}
    return all(port.get("nodePort") in then for port in spec.get("ports") or ())
