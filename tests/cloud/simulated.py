"""A cloud in memory, held to the contract of ``tests/contract/test_cloud.py`` as every other provider is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tiphys.api.object import Object
from tiphys.cloud.provider import (
    AttachedElsewhere,
    CloudError,
    CloudSnapshot,
    CloudVolume,
    InstanceMetadata,
    NoSuchDisk,
    OtherDisk,
    Route,
    load_balancer_name,
)


@dataclass
class Machine:
    metadata: InstanceMetadata | None
    shut_down: bool = False


@dataclass
class SimulatedCloud:
    name: str = "simulated"
    machines: dict[str, Machine] = field(default_factory=dict)
    """By the name of the node."""
    balancers: dict[str, tuple[Object, list[str]]] = field(default_factory=dict)
    """Status and backends, by name."""
    table: list[Route] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    disks: dict[str, CloudVolume] = field(default_factory=dict)
    attached: dict[str, str] = field(default_factory=dict)
    """The machine that has a disk."""
    snapshots: dict[str, CloudSnapshot] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    """What a kind of call raises from now on."""

    @property
    def instances(self) -> Instances:
        return Instances(self)

    @property
    def load_balancers(self) -> LoadBalancers:
        return LoadBalancers(self)

    @property
    def routes(self) -> Routes:
        return Routes(self)

    @property
    def volumes(self) -> Volumes:
        return Volumes(self)

    @property
    def machines_to_make(self) -> None:
        return None

    async def close(self) -> None:
        self.calls.append(("close", ""))

    def add_machine(self, name: str, number: int = 1, **more: str) -> Machine:
        addresses = [{"type": "InternalIP", "address": f"192.0.2.{number}"}]
        made = Machine(InstanceMetadata(f"simulated://{name}", "small", addresses, "zone-1", "region-1", more))
        self.machines[name] = made
        return made

    def called(self, what: str, about: str) -> None:
        self.calls.append((what, about))
        if what in self.failures:
            raise self.failures[what]


@dataclass
class Instances:
    cloud: SimulatedCloud

    def _machine(self, node: Object) -> Machine | None:
        provider_id = node["spec"].get("providerID")
        for name, machine in self.cloud.machines.items():
            known = machine.metadata.provider_id if machine.metadata else ""
            if (known == provider_id) if provider_id else (name == node["metadata"]["name"]):
                return machine
        return None

    async def exists(self, node: Object) -> bool:
        self.cloud.called("exists", node["metadata"]["name"])
        return self._machine(node) is not None

    async def is_shut_down(self, node: Object) -> bool:
        self.cloud.called("is_shut_down", node["metadata"]["name"])
        machine = self._machine(node)
        return machine is not None and machine.shut_down

    async def metadata(self, node: Object) -> InstanceMetadata | None:
        self.cloud.called("metadata", node["metadata"]["name"])
        machine = self._machine(node)
        if machine is None:
            raise CloudError("instance not found")
        return machine.metadata


@dataclass
class LoadBalancers:
    cloud: SimulatedCloud

    async def get(self, cluster: str, service: Object) -> Object | None:
        self.cloud.called("get", service["metadata"]["name"])
        found = self.cloud.balancers.get(load_balancer_name(service))
        return found[0] if found else None

    async def ensure(self, cluster: str, service: Object, nodes: Sequence[Object]) -> Object:
        self.cloud.called("ensure", service["metadata"]["name"])
        address = service["spec"].get("loadBalancerIP") or "203.0.113.1"
        status: Object = {"ingress": [{"ip": address, "ipMode": "VIP"}]}
        self.cloud.balancers[load_balancer_name(service)] = status, _names(nodes)
        return status

    async def update(self, cluster: str, service: Object, nodes: Sequence[Object]) -> None:
        self.cloud.called("update", service["metadata"]["name"])
        name = load_balancer_name(service)
        if name not in self.cloud.balancers:
            raise CloudError("no such load balancer")
        self.cloud.balancers[name] = self.cloud.balancers[name][0], _names(nodes)

    async def delete(self, cluster: str, service: Object) -> None:
        self.cloud.called("delete", service["metadata"]["name"])
        self.cloud.balancers.pop(load_balancer_name(service), None)


@dataclass
class Routes:
    cloud: SimulatedCloud

    async def list(self, cluster: str) -> Sequence[Route]:
        self.cloud.called("list_routes", cluster)
        return list(self.cloud.table)

    async def create(self, cluster: str, hint: str, route: Route) -> None:
        self.cloud.called("create_route", route.node)
        self.cloud.table.append(Route(f"{cluster}-{hint}", route.node, route.cidr, route.addresses))

    async def delete(self, cluster: str, route: Route) -> None:
        self.cloud.called("delete_route", route.node)
        self.cloud.table.remove(route)


@dataclass
class Volumes:
    cloud: SimulatedCloud
    has_zones: bool = True

    async def create(self, name: str, size: int, *, zone: str = "", kind: str = "", source: str = "") -> CloudVolume:
        self.cloud.called("create_volume", name)
        if source:
            size = max(size, self._snapshot(source).size)
        there = self.cloud.disks.get(f"disk-{name}")
        if there is not None and (there.size < size or there.source != source):
            raise OtherDisk(name)
        return self.cloud.disks.setdefault(f"disk-{name}", CloudVolume(f"disk-{name}", size, "zone-1", source))

    async def get(self, identity: str) -> CloudVolume | None:
        return self.cloud.disks.get(identity)

    async def delete(self, identity: str) -> None:
        self.cloud.called("delete_volume", identity)
        if identity in self.cloud.attached:
            raise AttachedElsewhere(identity)
        self.cloud.disks.pop(identity, None)

    async def attach(self, identity: str, node: Object) -> Sequence[str]:
        self.cloud.called("attach", identity)
        self._disk(identity)
        if self.cloud.attached.setdefault(identity, node["metadata"]["name"]) != node["metadata"]["name"]:
            raise AttachedElsewhere(identity)
        return (f"/dev/{identity}",)

    async def detach(self, identity: str, node: Object) -> None:
        self.cloud.called("detach", identity)
        if self.cloud.attached.get(identity) == node["metadata"]["name"]:
            del self.cloud.attached[identity]

    async def expand(self, identity: str, size: int) -> CloudVolume:
        volume = self._disk(identity)
        self.cloud.disks[identity] = replace(volume, size=max(volume.size, size))
        return self.cloud.disks[identity]

    async def snapshot(self, name: str, identity: str) -> CloudSnapshot:
        volume = self._disk(identity)
        taken = self.cloud.snapshots.setdefault(name, CloudSnapshot(name, identity, volume.size, 1_700_000_000.0))
        if taken.volume != identity:
            raise OtherDisk(name)
        return taken

    async def get_snapshot(self, identity: str) -> CloudSnapshot | None:
        return self.cloud.snapshots.get(identity)

    async def delete_snapshot(self, identity: str) -> None:
        self.cloud.snapshots.pop(identity, None)

    def _disk(self, identity: str) -> CloudVolume:
        if identity not in self.cloud.disks:
            raise NoSuchDisk(identity)
        return self.cloud.disks[identity]

    def _snapshot(self, identity: str) -> CloudSnapshot:
        if identity not in self.cloud.snapshots:
            raise NoSuchDisk(identity)
        return self.cloud.snapshots[identity]


def _names(nodes: Sequence[Object]) -> list[str]:
    return sorted(node["metadata"]["name"] for node in nodes)
