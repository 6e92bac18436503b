"""A question that the DNS server fails on, in the protocol's callback or in its task: the next one is answered."""

from __future__ import annotations

import asyncio

import pytest

from tests.dns.test_server import World, data, run
from tests.faults import Fault


@pytest.mark.parametrize("name", ["_look_up", "_at_once", "_asking_others"])
def test_a_question_that_fails_closes_no_socket(name: str) -> None:
    async def test(world: World) -> None:
        ip = (await world.service("web"))["spec"]["clusterIP"]
        await world.eventually("web.default.svc.cluster.local")
        fault = Fault(world.server, name)
        asked = {
            "_look_up": "web.default.svc.cluster.local",
            "_at_once": "other.default.svc.cluster.local",
            "_asking_others": "example.org",
        }[name]
        with pytest.raises(TimeoutError):
            await world.udp(asked)
        assert fault.hits == 1
        assert data(await world.udp("web.default.svc.cluster.local")) == [ip]
        assert data(await world.tcp("web.default.svc.cluster.local")) == [ip]
        await asyncio.sleep(0)

    run(test)
