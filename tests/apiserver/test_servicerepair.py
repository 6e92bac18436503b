"""What is allocated and what services have becomes the same again."""

from __future__ import annotations

from typing import cast

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.registry.services.repair import SIGHTINGS, Leaks, ServiceRepair
from tiphys.apiserver.registry.services.services import ServiceStrategy
from tiphys.client import resources as R
from tiphys.client.errors import NotFound


def strategy_of(world: World) -> ServiceStrategy:
    return cast(ServiceStrategy, world.server.registries.get("", "services").strategy)


async def exists(world: World, address: str) -> bool:
    try:
        await world.admin.get(R.IP_ADDRESSES, address)
    except NotFound:
        return False
    return True


def test_a_lost_allocation_comes_back() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        spec = {"type": "NodePort", "ports": [{"port": 80}]}
        made = await world.admin.create(R.SERVICES, {"metadata": {"name": "s"}, "spec": spec}, namespace="a")
        address, port = made["spec"]["clusterIP"], made["spec"]["ports"][0]["nodePort"]
        strategy = strategy_of(world)
        await strategy.release([address], [port])
        await world.settle()
        assert not await exists(world, address)
        told: list[tuple[str, str]] = []
        repair = ServiceRepair(world.server.registries, lambda obj, *words, action: told.append((obj["name"], *words)))
        await repair.repair()
        assert await exists(world, address)
        assert port in await strategy.ports.taken()
        assert told == [
            ("s", "ClusterIPNotAllocated", f"Cluster IP [IPv4]: {address} is not allocated; repairing"),
            ("s", "PortNotAllocated", f"Port {port} is not allocated; repairing"),
        ]

    run(work)


def test_an_allocation_of_no_service_goes_after_some_time() -> None:
    async def work(world: World) -> None:
        strategy = strategy_of(world)
        address = await strategy.pools["IPv4"].allocate("a", "never-written", dry_run=False)
        port = await strategy.ports.allocate()
        await world.clock.sleep(world.server.config.service_repair_interval * (SIGHTINGS - 0.5))
        assert await exists(world, address)
        await world.clock.sleep(world.server.config.service_repair_interval)
        assert not await exists(world, address)
        assert port not in await strategy.ports.taken()
        await world.clock.sleep(1)
        (event,) = (await world.admin.list(R.EVENTS))["items"]
        text = f"IPAddress: {address} for Service a/never-written appears to have leaked: cleaning up"
        assert (event["reason"], event["note"]) == ("IPAddressNotAllocated", text)
        assert (event["regarding"]["kind"], event["reportingController"]) == (
            "IPAddress",
            "ipallocator-repair-controller",
        )

    run(work)


def test_only_what_leaks_again_and_again_is_a_leak() -> None:
    leaks = Leaks()
    assert [leaks.confirmed(found) for found in ([1, 2], [1], [1, 2], [1, 2])] == [[], [], [1], [1]]
