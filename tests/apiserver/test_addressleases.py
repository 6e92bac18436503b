"""The keys by which API servers know which of them live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.bootstrap.addressleases import LEASE_SECONDS, AddressLeases

ADDRESS = "192.0.2.7"


def with_leases(work: Callable[[World, AddressLeases], Awaitable[None]]) -> None:
    run(lambda world: work(world, AddressLeases(world.backend, "/elsewhere")))


def test_an_address_goes_with_its_lease_and_is_held_again() -> None:
    async def work(world: World, leases: AddressLeases) -> None:
        await leases.renew(ADDRESS)
        assert await leases.addresses() == [ADDRESS]
        await world.clock.sleep(LEASE_SECONDS + 2)
        assert await leases.addresses() == []
        await leases.renew(ADDRESS)
        assert await leases.addresses() == [ADDRESS]

    with_leases(work)


def test_signing_off_after_the_lease_ran_out_is_no_error() -> None:
    async def work(world: World, leases: AddressLeases) -> None:
        await leases.renew(ADDRESS)
        await world.clock.sleep(LEASE_SECONDS + 2)
        await leases.withdraw(ADDRESS)
        assert await leases.addresses() == []

    with_leases(work)
