"""A service that the proxy fails on keeps the rules that it had; the others get theirs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import orjson

from tests.proxy.objects import endpoint, service, slice_of
from tiphys.client.rest import Client
from tiphys.proxy.backend import LastSync
from tiphys.proxy.config import ProxyConfig
from tiphys.proxy.health.reports import Health
from tiphys.proxy.kubeproxy import KubeProxy
from tiphys.proxy.state import ServiceKey, ServiceState
from tiphys.proxy.tracker import Tracker
from tiphys.runtime.clock import SystemClock
from tiphys.wire.http import Request, Response
from tiphys.wire.inprocess import InProcessTransport


def names(changes: Mapping[ServiceKey, ServiceState]) -> set[str]:
    return {name for _, name in changes}


def test_a_slice_that_cannot_be_read_is_its_services_alone() -> None:
    tracker = Tracker("ip", "node-1")
    for name in ("good", "bad"):
        tracker.service_changed(service(name))
        tracker.slice_changed(slice_of(endpoint("10.0.0.1"), name=name))
    broken = slice_of(endpoint("10.0.0.1"), name="bad")
    broken["endpoints"] = [None]
    tracker.slice_changed(broken)
    assert names(tracker.take_changes()) == {"good"}
    assert tracker.take_changes() == {}
    tracker.slice_changed(slice_of(endpoint("10.0.0.2"), name="bad"))
    assert names(tracker.take_changes()) == {"bad"}


class Backend:
    """Rules in memory; fails on one service, whatever it is synced with."""

    has_stale = full_sync_due = False

    def __init__(self) -> None:
        self.last = LastSync()
        self.synced: set[str] = set()

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        if "bad" in names(changes):
            raise KeyError("a fault of one service")
        self.synced |= names(changes)


def test_a_sync_that_fails_on_one_service_brings_the_others_up_to_date() -> None:
    async def nobody(request: Request) -> Response:
        return Response(404)

    async def main() -> None:
        clock = SystemClock()
        proxy = KubeProxy(
            config=ProxyConfig("node-1"), client=Client(InProcessTransport(nobody)), clock=clock, rng=random.Random(1)
        )
        backend: Any = Backend()
        proxy._backends["ip"] = backend
        for name in ("a", "bad", "c"):
            proxy._trackers["ip"].service_changed(service(name))
        proxy.health.queued("ip")
        assert not await proxy._sync("ip")
        assert backend.synced == {"a", "c"}
        assert names(proxy._undone["ip"]) == {"bad"}
        assert "ip" in proxy.health._pending  # health tells, after its patience

    asyncio.run(main())


def test_a_loop_that_keeps_failing_makes_the_proxy_unhealthy() -> None:
    clock = SystemClock()
    troubles: dict[str, str] = {}
    health = Health(clock, 60.0, lambda: troubles)
    health.updated("ip")
    assert health.report(eligible=True).status == 200
    troubles["sync"] = "RuntimeError: a fault"
    for eligible in (True, None):
        answer = health.report(eligible=eligible)
        assert (answer.status, orjson.loads(answer.body)["healthy"]) == (503, False)
