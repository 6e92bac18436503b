"""The route controller: the cloud's network gets a route to each node's pods, and nodes say whether they have one.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/#route-controller
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tiphys.api.meta.objects import name_of
from tiphys.api.object import Object
from tiphys.client.resources import NODES
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.cloud.context import CloudContext
from tiphys.cloud.provider import Route, Routes
from tiphys.cloud.routing import plan, pod_cidrs
from tiphys.controlkit.objects import condition, timestamp

log = logging.getLogger(__name__)

_AT_ONCE = 200
T = TypeVar("T")


class RouteController:
    def __init__(self, context: CloudContext, routes: Routes) -> None:
        config = context.config
        self._client, self._clock, self._routes = context.client, context.clock, routes
        self._recorder = context.recorder.named("route_controller")
        self._nodes = context.informers.informer(NODES)
        self._cluster = config.cluster_name
        self._cidrs = [ipaddress.ip_network(text) for text in config.cluster_cidrs]
        self._period = config.route_reconciliation_period
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        await self._nodes.wait_synced()
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - the cloud may fail in any way, and is asked again
                log.warning("cannot bring the routes up to date: %s", error)
            await self._clock.sleep(self._period)

    async def look(self) -> None:
        """Delete the routes that are wrong, make those that are missing, and report it in the nodes' conditions."""
        routes = await self._routes.list(self._cluster)
        nodes = self._nodes.store.list()
        wanted = plan(nodes, routes, self._cidrs)
        await self._each(wanted.delete, self._delete)
        by_name = {name_of(node): node for node in nodes}
        missing: set[str] = set()

        async def create(row: tuple[str, Route]) -> None:
            hint, route = row
            if not await self._create(hint, route, by_name[route.node]):
                missing.add(route.node)

        await self._each(wanted.create, create)
        routed = [node for node in nodes if pod_cidrs(node)]
        await self._each(routed, lambda node: self._report(node, created=name_of(node) not in missing))

    async def _each(self, items: Iterable[T], act: Callable[[T], Awaitable[None]]) -> None:
        async def contained(item: T) -> None:
            async with self._at_once:
                try:
                    await act(item)
                except Exception as error:  # noqa: BLE001 - of one route, or one node
                    log.warning("%s", error)

        await asyncio.gather(*map(contained, items))

    async def _delete(self, route: Route) -> None:
        await self._routes.delete(self._cluster, route)
        log.info("deleted the route %s to %s", route.name, route.cidr)

    async def _create(self, hint: str, route: Route, node: Object) -> bool:
        try:
            await self._routes.create(self._cluster, hint, route)
        except Exception as error:  # noqa: BLE001 - the cloud may fail in any way: the event says how
            text = f"Could not create route {hint} {route.cidr} for node {route.node}: {error}"
            self._recorder.event(node, "Warning", "FailedToCreateRoute", text)
            return False
        return True

    async def _report(self, node: Object, *, created: bool) -> None:
        shown, status, reason = condition(node, "NetworkUnavailable"), "False", "RouteCreated"
        message = "RouteController created a route"
        if not created:
            status, reason, message = "True", "NoRouteCreated", "RouteController failed to create a route"
        if shown is not None and (shown["status"], shown.get("reason")) == (status, reason):
            return
        now = timestamp(self._clock.now())
        wanted = {
            "type": "NetworkUnavailable",
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        patch = {"status": {"conditions": [wanted]}}
        await self._client.patch(NODES, name_of(node), patch, type=STRATEGIC_MERGE, subresource="status")
