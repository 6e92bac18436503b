"""The contract of every ``CloudProvider``: what the cloud's controllers and the volumes' driver lean on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tiphys.api.object import Object
from tiphys.cloud.provider import AttachedElsewhere, CloudError, CloudProvider, NoSuchDisk, OtherDisk, Route

CLUSTER = "kubernetes"
MIB, GIB = 1 << 20, 1 << 30


@dataclass
class World:
    """A cloud with two machines, ``names``, that are nodes."""

    cloud: CloudProvider
    names: Sequence[str]
    stop: Callable[[str], Awaitable[None]]
    """Shuts the machine of a name down."""
    end: Callable[[str], Awaitable[None]]
    """Ends it for good."""
    backends: Callable[[Object], Awaitable[list[str]]]
    """The machines, by name, to which a Service's load balancer leads."""
    carries_udp: bool = True

    def node(self, name: str, provider_id: str = "") -> Object:
        spec = {"providerID": provider_id} if provider_id else {}
        return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec, "status": {}}

    async def known(self, name: str) -> Object:
        """The node with its provider id and addresses, as the cloud gives them."""
        assert self.cloud.instances is not None
        metadata = await self.cloud.instances.metadata(self.node(name))
        assert metadata is not None
        known = self.node(name, metadata.provider_id)
        return {**known, "status": {"addresses": list(metadata.addresses)}}


def service(*ports: Object, **spec: Any) -> Object:
    listed = list(ports) or [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {"type": "LoadBalancer", "ports": listed, **spec},
    }


async def machines(made: World) -> None:
    instances, (first, second) = made.cloud.instances, made.names
    assert instances is not None
    metadata = await instances.metadata(made.node(first))
    assert metadata is not None
    assert metadata.instance_type
    assert metadata.zone
    assert metadata.region
    assert any(address["type"] == "InternalIP" for address in metadata.addresses)
    by_id = made.node("any other name", metadata.provider_id)
    assert await instances.metadata(by_id) == metadata  # the id counts, not the name
    assert await instances.exists(by_id)
    assert not await instances.is_shut_down(by_id)
    await made.stop(first)
    assert await instances.is_shut_down(by_id)
    assert await instances.exists(by_id)  # it may be started again
    gone = await made.known(second)
    await made.end(second)
    assert not await instances.exists(gone)
    assert not await instances.is_shut_down(gone)
    for unknown in (gone, made.node("nobody")):
        with pytest.raises(CloudError):
            await instances.metadata(unknown)
    assert not await instances.exists(made.node("nobody"))


async def load_balancers(made: World) -> None:
    balancers = made.cloud.load_balancers
    assert balancers is not None
    first, second = [await made.known(name) for name in made.names]
    assert await balancers.get(CLUSTER, service()) is None
    await balancers.delete(CLUSTER, service())  # it is no error that there is none
    status = await balancers.ensure(CLUSTER, service(), [first])
    (ingress,) = status["ingress"]
    assert ingress.get("ip") or ingress.get("hostname")
    assert await balancers.get(CLUSTER, service()) == status
    assert await balancers.ensure(CLUSTER, service(), [first]) == status
    assert await made.backends(service()) == [made.names[0]]
    await balancers.update(CLUSTER, service(), [first, second])
    assert await made.backends(service()) == list(made.names)
    await balancers.update(CLUSTER, service(), [second])
    assert await made.backends(service()) == [made.names[1]]
    second_port = {"port": 53, "nodePort": 30053, "protocol": "UDP" if made.carries_udp else "TCP"}
    more = service({"port": 80, "nodePort": 30081}, second_port)
    assert await balancers.ensure(CLUSTER, more, [first, second]) == status
    assert await made.backends(more) == list(made.names)
    await balancers.delete(CLUSTER, more)
    assert await balancers.get(CLUSTER, more) is None
    assert await made.backends(more) == []
    with pytest.raises(CloudError):
        await balancers.update(CLUSTER, more, [first])


async def routes(made: World) -> None:
    routes, name = made.cloud.routes, made.names[0]
    assert routes is not None

    async def shown() -> list[tuple[str, str]]:
        return [(route.node, route.cidr) for route in await routes.list(CLUSTER)]

    assert await shown() == []
    await routes.create(CLUSTER, "hint", Route("", name, "10.244.1.0/24"))
    assert await shown() == [(name, "10.244.1.0/24")]
    (route,) = await routes.list(CLUSTER)
    await routes.delete(CLUSTER, route)
    assert await shown() == []


async def volumes(made: World) -> None:
    disks = made.cloud.volumes
    assert disks is not None
    first, second = [await made.known(name) for name in made.names]
    assert made.cloud.instances is not None
    place = await made.cloud.instances.metadata(first)
    assert place is not None
    volume = await disks.create("data", 1 * GIB, zone=place.zone)
    assert volume.size >= 1 * GIB
    assert await disks.create("data", 1 * GIB, zone=place.zone) == volume  # its name finds it again
    with pytest.raises(OtherDisk):
        await disks.create("data", 9 * GIB, zone=place.zone)
    assert await disks.get(volume.id) == volume

    devices = await disks.attach(volume.id, first)
    assert devices[0].startswith("/dev/")
    assert await disks.attach(volume.id, first) == devices
    with pytest.raises(AttachedElsewhere):
        await disks.attach(volume.id, second)
    with pytest.raises(AttachedElsewhere):
        await disks.delete(volume.id)
    await disks.detach(volume.id, second)  # it is not there, which is no error
    with pytest.raises(AttachedElsewhere):
        await disks.attach(volume.id, second)
    await disks.detach(volume.id, first)
    await disks.detach(volume.id, first)
    assert await disks.attach(volume.id, second)
    await disks.detach(volume.id, second)

    grown = await disks.expand(volume.id, 2 * GIB)
    assert grown.size >= 2 * GIB
    assert (await disks.expand(volume.id, 1 * GIB)).size == grown.size  # it never shrinks
    snapshot = await disks.snapshot("then", volume.id)
    assert (snapshot.volume, snapshot.size) == (volume.id, grown.size)
    assert (await disks.snapshot("then", volume.id)).id == snapshot.id
    assert await disks.get_snapshot(snapshot.id) is not None
    copy = await disks.create("copy", 1 * GIB, zone=place.zone, source=snapshot.id)
    assert (copy.source, copy.size) == (snapshot.id, grown.size)
    with pytest.raises(OtherDisk):
        await disks.snapshot("then", copy.id)

    for each in (copy, volume):
        await disks.delete(each.id)
        await disks.delete(each.id)
        assert await disks.get(each.id) is None
    await disks.delete_snapshot(snapshot.id)
    await disks.delete_snapshot(snapshot.id)
    assert await disks.get_snapshot(snapshot.id) is None
    await disks.detach(volume.id, first)
    for refused in (disks.attach(volume.id, first), disks.expand(volume.id, 3 * GIB), disks.snapshot("x", volume.id),
                    disks.create("y", GIB, zone=place.zone, source=snapshot.id)):  # fmt: skip
        with pytest.raises(NoSuchDisk):
            await refused
