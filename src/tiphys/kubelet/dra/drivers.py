"""Drivers of dynamic resources that have registered on this node, and what becomes of a driver's slices when it goes.

A driver that comes again within half a minute, as on an update, keeps its ResourceSlices; otherwise they are deleted,
as nobody can prepare what they offer. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from tiphys.client import errors
from tiphys.client.resources import RESOURCE_SLICES
from tiphys.client.rest import Client
from tiphys.kubelet.dra.claims import ClaimInfo, PreparedDevice
from tiphys.kubelet.dra.health import HealthMonitor
from tiphys.kubelet.dra.messages import SERVICES, dra
from tiphys.kubelet.plugins.registration import PluginInfo, PluginRefused
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner
from tiphys.wire.grpc.caller import Caller

log = logging.getLogger(__name__)

WIPING_DELAY = 30.0
CALL_TIMEOUT = 45.0


class DriverMissing(Exception):
    """No driver of this name has registered; upstream's message."""

    def __init__(self, name: str) -> None:
        super().__init__(f"DRA driver {name} is not registered")


class ClaimFailed(Exception):
    """A driver did not do what it was asked for a claim."""


class Driver:
    """Methods raise ``GrpcError`` and ``ClaimFailed``."""

    def __init__(self, name: str, endpoint: str, version: str) -> None:
        self.name = name
        self._caller = Caller(endpoint, dra(version))

    async def prepare(self, claims: Sequence[ClaimInfo]) -> dict[str, list[PreparedDevice]]:
        """The devices of each claim, by its uid."""
        answers = await self._ask("NodePrepareResources", claims)
        return {
            uid: [
                PreparedDevice(d.pool_name, d.device_name, d.share_id, tuple(d.request_names), tuple(d.cdi_device_ids))
                for d in answer.devices
            ]
            for uid, answer in answers.items()
        }

    async def unprepare(self, claims: Sequence[ClaimInfo]) -> None:
        await self._ask("NodeUnprepareResources", claims)

    async def _ask(self, method: str, claims: Sequence[ClaimInfo]) -> dict[str, Any]:
        """The answer for each claim, none of them an error."""
        asked = [{"namespace": info.namespace, "uid": info.uid, "name": info.name} for info in claims]
        answers = dict((await self._caller.call(method, CALL_TIMEOUT, claims=asked)).claims)
        names = {info.uid: info.name for info in claims}
        for uid, answer in answers.items():
            if uid not in names:
                raise ClaimFailed(f"{method} returned result for unknown claim UID {uid}")
            if answer.error:
                raise ClaimFailed(f"{method} failed for ResourceClaim {names[uid]}: {answer.error}")
        if skipped := len(names) - len(answers):
            raise ClaimFailed(f"{method} skipped {skipped} ResourceClaims")
        return answers

    async def close(self) -> None:
        await self._caller.close()


class Drivers:
    """Handles plugins of the type ``DRAPlugin``."""

    def __init__(
        self, client: Client, node_name: str, clock: Clock, runner: Runner, *, health: HealthMonitor | None = None
    ) -> None:
        self._health = health
        self._client = client
        self._node_name = node_name
        self._clock = clock
        self._runner = runner
        self._drivers: dict[str, Driver] = {}
        self._wiping: dict[str, asyncio.Task[None]] = {}

    def get(self, name: str) -> Driver:
        """Raises ``DriverMissing``."""
        driver = self._drivers.get(name)
        if driver is None:
            raise DriverMissing(name)
        return driver

    async def start(self) -> None:
        """What drivers of an earlier life have offered counts only if they register again."""
        for one in await self._known_slices():
            self._wipe_later(one)

    async def register(self, plugin: PluginInfo) -> None:
        """Raises ``PluginRefused``."""
        version = next((SERVICES[name] for name in SERVICES if name in plugin.versions), None)
        if version is None:
            offered, wanted = " ".join(plugin.versions), " ".join(SERVICES)
            message = f"none of [{offered}] is supported by this kubelet, which needs one of [{wanted}]"
            where = f"DRA driver plugin {plugin.name} at endpoint {plugin.endpoint}"
            raise PluginRefused(f"invalid supported gRPC versions of {where}: {message}")
        before, self._drivers[plugin.name] = (
            self._drivers.get(plugin.name),
            Driver(plugin.name, plugin.endpoint, version),
        )
        if (wiping := self._wiping.pop(plugin.name, None)) is not None:
            wiping.cancel()
        if self._health is not None:
            self._health.follow(plugin.name, plugin.endpoint)
        if before is not None:
            await before.close()

    async def deregister(self, name: str) -> None:
        driver = self._drivers.pop(name, None)
        if driver is not None:
            if self._health is not None:
                self._health.leave(name)
            await driver.close()
            self._wipe_later(name)

    async def close(self) -> None:
        for driver in self._drivers.values():
            await driver.close()

    async def _known_slices(self) -> set[str]:
        """Drivers that have slices of this node; none if the API server does not serve such things."""
        try:
            slices = await self._client.list(RESOURCE_SLICES, field_selector=f"spec.nodeName={self._node_name}")
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot list the node's resource slices: %s", error)
            return set()
        return {one["spec"]["driver"] for one in slices["items"]}

    def _wipe_later(self, driver: str) -> None:
        if driver not in self._wiping and driver not in self._drivers:
            self._wiping[driver] = self._runner.spawn(self._wipe(driver), f"slices of {driver}")

    async def _wipe(self, driver: str) -> None:
        await self._clock.sleep(WIPING_DELAY)
        selector = f"spec.driver={driver},spec.nodeName={self._node_name}"
        for delay in backoff(1.0, 2, 300):
            try:
                await self._client.delete_collection(RESOURCE_SLICES, field_selector=selector)
                break
            except errors.NotFound:
                break
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot delete the resource slices of driver %s: %s", driver, error)
                await self._clock.sleep(delay)
        self._wiping.pop(driver, None)
