"""The storage drivers that have registered on this node, and how they become known to the cluster.

Source: KEP-595 and https://github.com/container-storage-interface/spec/blob/master/spec.md#node-service-rpc
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Protocol

from tiphys.api.csi.messages import csi, rpc_capabilities
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import CSI_DRIVERS, CSI_NODES, NODES
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.kubelet.plugins.registration import PluginInfo, PluginRefused
from tiphys.kubelet.volumes.csi import nodeinfo
from tiphys.kubelet.volumes.csi.nodeinfo import DriverOnNode
from tiphys.runtime.clock import Clock
from tiphys.wire.grpc.caller import Caller, describe
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

CALL_TIMEOUT = 120.0
_INFO_TIMEOUT = 15.0
_TRIES = 10
_LIMITS_LOOK = 10.0
"""The shortest period that a CSIDriver may name."""
_WITHOUT_PERIOD = 60.0
"""Seconds after which a driver that names none is looked at again."""
_VERSION = re.compile(r"v?(\d+)\.\d+\.\d+$")


class CSIDriver(Protocol):
    """A driver as the rest of the kubelet uses it."""

    name: str

    async def call(self, method: str, /, **fields: Any) -> Any:
        """Raises ``GrpcError``."""
        ...

    async def can(self, capability: str) -> bool:
        """Whether the node service has a capability, such as ``STAGE_UNSTAGE_VOLUME``. Raises ``GrpcError``."""
        ...


class _Driver:
    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self._caller = Caller(endpoint, csi())
        self._capabilities: frozenset[str] | None = None

    async def call(self, method: str, /, **fields: Any) -> Any:
        return await self._caller.call(method, CALL_TIMEOUT, **fields)

    async def can(self, capability: str) -> bool:
        if self._capabilities is None:
            self._capabilities = rpc_capabilities(await self.call("NodeGetCapabilities"), "NodeServiceCapability")
        return capability in self._capabilities

    async def info(self) -> DriverOnNode:
        answer = await self._caller.call("NodeGetInfo", _INFO_TIMEOUT)
        topology = dict(answer.accessible_topology.segments)
        return DriverOnNode(self.name, answer.node_id, answer.max_volumes_per_node, topology)

    async def close(self) -> None:
        await self._caller.close()


class DriverMissing(Exception):
    """No driver of this name has registered; upstream's message."""

    def __init__(self, name: str) -> None:
        super().__init__(f"driver name {name} not found in the list of registered CSI drivers")


def update_period(about: Object | None) -> int:
    """Seconds after which a CSIDriver wants its limit to be read again; 0 for never."""
    return int(((about or {}).get("spec") or {}).get("nodeAllocatableUpdatePeriodSeconds") or 0)


class CSIDrivers:
    """Handles plugins of the type ``CSIPlugin``. ``node()`` gives the Node as the API last showed it."""

    def __init__(self, client: Client, node_name: str, node: Callable[[], Object | None], clock: Clock) -> None:
        self._clock = clock
        self._client = client
        self._node_name = node_name
        self._node = node
        self._drivers: dict[str, _Driver] = {}

    def get(self, name: str) -> CSIDriver:
        """Raises ``DriverMissing``."""
        driver = self.find(name)
        if driver is None:
            raise DriverMissing(name)
        return driver

    def find(self, name: str) -> CSIDriver | None:
        return self._drivers.get(name)

    async def register(self, plugin: PluginInfo) -> None:
        """Take a driver in that has announced itself. Raises ``PluginRefused`` if it cannot be used."""
        majors = [match[1] for version in plugin.versions if (match := _VERSION.match(version))]
        if "1" not in majors:
            versions = ", ".join(plugin.versions) or "none"
            raise PluginRefused(f"CSI driver {plugin.name} supports versions {versions}; this kubelet needs 1.x.y")
        driver = _Driver(plugin.name, plugin.endpoint)
        try:
            info = await driver.info()
            if not info.node_id:
                raise PluginRefused(f"CSI driver {plugin.name} has no node id")
            await self._publish(info)
        except (GrpcError, errors.ApiError, ConnectionError, TimeoutError, ValueError) as error:
            await driver.close()
            text = describe(error) if isinstance(error, GrpcError) else str(error)
            raise PluginRefused(f"RegisterPlugin error -- plugin registration failed with err: {text}") from error
        except PluginRefused:
            await driver.close()
            raise
        before, self._drivers[plugin.name] = self._drivers.get(plugin.name), driver
        if before is not None:
            await before.close()

    async def keep_limits(self) -> None:
        """Ask drivers whose CSIDriver says so again and again how many volumes the node can have (KEP-4876)."""
        due: dict[str, float] = {}
        while True:
            await self._clock.sleep(_LIMITS_LOOK)
            now = self._clock.monotonic()
            due = {name: due.get(name, now) for name in self._drivers}
            for name in [name for name, when in due.items() if when <= now]:
                try:
                    about = await self._client.get(CSI_DRIVERS, name)
                except errors.NotFound:
                    about = {}
                except (errors.ApiError, ConnectionError, TimeoutError) as error:
                    log.warning("cannot read CSIDriver %s: %s", name, error)
                    continue
                period = update_period(about)
                due[name] = now + (period or _WITHOUT_PERIOD)
                if period:
                    await self.update_limit(name)

    async def update_limit(self, name: str) -> None:
        """Ask one driver, and let its CSINode say what it says. What goes wrong is logged: the next time may do."""
        driver = self._drivers.get(name)
        if driver is None:
            return
        try:
            info = await driver.info()
            await self._change_csi_node(lambda csi_node: nodeinfo.with_driver(csi_node, info))
        except (GrpcError, errors.ApiError, ConnectionError, TimeoutError) as error:
            text = describe(error) if isinstance(error, GrpcError) else str(error)
            log.warning("cannot update how many volumes of driver %s the node can have: %s", name, text)

    async def deregister(self, name: str) -> None:
        driver = self._drivers.pop(name, None)
        if driver is not None:
            await driver.close()
        await self._change_csi_node(lambda csi_node: nodeinfo.without_driver(csi_node, name))
        await self._change_node(lambda node: nodeinfo.node_patch_without(node, name))

    async def start(self) -> None:
        """Have a CSINode, with no drivers in it at first: the scheduler trusts what it says."""
        await self._change_csi_node(lambda csi_node: None)

    async def _publish(self, driver: DriverOnNode) -> None:
        await self._change_node(lambda node: nodeinfo.node_patch(node, driver))
        await self._change_csi_node(lambda csi_node: nodeinfo.with_driver(csi_node, driver))

    async def _change_node(self, change: Callable[[Object], Object | None]) -> None:
        patch = change(await self._client.get(NODES, self._node_name))
        if patch is not None:
            await self._client.patch(NODES, self._node_name, patch, type=STRATEGIC_MERGE)

    async def _change_csi_node(self, change: Callable[[Object], Object | None]) -> None:
        """Others of the node's drivers may change it at the same time. Raises ``ApiError``."""
        for tries_left in reversed(range(_TRIES)):
            try:
                csi_node = await self._get_csi_node()
                wanted = change(csi_node)
                if wanted is not None:
                    await self._client.update(CSI_NODES, wanted)
                return
            except (errors.Conflict, errors.AlreadyExists):
                if not tries_left:
                    raise

    async def _get_csi_node(self) -> Object:
        try:
            return await self._client.get(CSI_NODES, self._node_name)
        except errors.NotFound:
            node = self._node() or await self._client.get(NODES, self._node_name)
            return await self._client.create(CSI_NODES, nodeinfo.new_csi_node(node))
