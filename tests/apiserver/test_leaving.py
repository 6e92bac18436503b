"""How a server ends: unready first, then serving on for its delay, turning away, and ending its watches."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.config import Config
from tiphys.client import resources as R

PLAIN = Config(seed=1)


async def status(world: World, path: str, **headers: str) -> int:
    return (await world.raw("GET", path, **headers)).status


def test_requests_are_answered_for_the_delay_while_nobody_is_to_send_more() -> None:
    async def work(world: World) -> None:
        began = world.clock.monotonic()
        leaving = asyncio.ensure_future(world.server.withdraw())
        await world.clock.sleep(19)
        assert (await status(world, "/readyz"), await status(world, "/livez")) == (500, 200)
        assert await status(world, "/api/v1/nodes") == 200
        await leaving
        assert world.clock.monotonic() - began == 20

    run(work, replace(PLAIN, shutdown_delay=20.0))


def test_new_requests_are_turned_away_until_those_in_flight_have_ended() -> None:
    async def work(world: World) -> None:
        in_flight = world.server.gate.in_flight
        in_flight.mutating += 1  # one that lasts
        leaving = asyncio.ensure_future(world.server.withdraw())
        await world.clock.sleep(5)
        assert await status(world, "/api/v1/nodes") == 200
        await world.clock.sleep(10)
        answer = await world.raw("GET", "/api/v1/nodes")
        assert (answer.status, answer.body) == (429, b"The apiserver is shutting down, please try again later.\n")
        assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("5", "close")
        assert [await status(world, path) for path in ("/livez", "/readyz", "/metrics")] == [200, 500, 200]
        assert await status(world, "/api/v1/nodes", user_agent="kube-apiserver/v1.36") == 200
        assert not leaving.done()
        in_flight.mutating -= 1
        await asyncio.wait_for(leaving, 1)

    run(work, replace(PLAIN, shutdown_delay=10.0, shutdown_retry_after=True))


def test_what_never_ends_is_waited_for_as_long_as_a_request_may_take() -> None:
    async def work(world: World) -> None:
        world.server.gate.in_flight.reading += 1
        began = world.clock.monotonic()
        await world.server.withdraw()
        assert 30 <= world.clock.monotonic() - began < 31

    run(work, replace(PLAIN, request_timeout=30.0, shutdown_retry_after=True))


def test_watches_end_one_after_the_other_over_their_time() -> None:
    async def work(world: World) -> None:
        ends: list[float] = []
        began = world.clock.monotonic()

        async def watch() -> None:
            events = [event.type async for event in world.admin.watch(R.CONFIG_MAPS, resource_version="0")]
            assert set(events) <= {"BOOKMARK", "ADDED"}
            ends.append(world.clock.monotonic() - began)

        watches = [asyncio.ensure_future(watch()) for _ in range(8)]
        await world.clock.sleep(1)
        began = world.clock.monotonic()
        await world.server.withdraw()
        await asyncio.wait_for(asyncio.gather(*watches), 1)
        assert len({round(end) for end in ends}) >= 7
        assert max(ends) <= 8

    run(work, replace(PLAIN, watch_grace=8.0))
