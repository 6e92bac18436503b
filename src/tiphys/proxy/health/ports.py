"""Listens on the healthCheckNodePort of each service that has one.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tiphys.proxy.health.reports import Health, service_handler
from tiphys.proxy.nodeports import Hosts
from tiphys.proxy.state import ServiceKey, ServiceState
from tiphys.runtime.system.hosttools import CommandError
from tiphys.wire.reserving import reserve
from tiphys.wire.server import Server, serve

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Port:
    number: int
    servers: list[Server]
    endpoints: int = 0


class HealthPorts:
    """``sync`` opens and closes listeners as services come and go, on the addresses of one family that take NodePort
    traffic. ``taken`` is called with the service, the port and the reason if one cannot be opened."""

    def __init__(self, health: Health, taken: Callable[[ServiceKey, int, str], None], hosts: Hosts) -> None:
        self._hosts = hosts
        self._health = health
        self._taken = taken
        self._open: dict[ServiceKey, _Port] = {}

    async def sync(self, changes: Mapping[ServiceKey, ServiceState]) -> None:
        for key, state in changes.items():
            number = next((b.port.health_check_node_port for b in state if b.port.health_check_node_port), 0)
            current = self._open.get(key)
            if current is not None and current.number != number:
                await self._close(key)
            if number and key not in self._open:
                await self._listen(key, number)
            if key in self._open:
                self._open[key].endpoints = _local_ready(state)

    async def _listen(self, key: ServiceKey, number: int) -> None:
        def count() -> int:
            return self._open[key].endpoints if key in self._open else 0

        port = _Port(number, [])
        try:
            for host in await self._hosts():
                # Each family's proxy has its own: endpoints on this node may be of one family only.
                sock = reserve(host, number, alone=True)
                port.servers.append(await serve(service_handler(key, count, self._health), host, number, sock=sock))
        except (OSError, CommandError) as error:
            await _close(port)
            log.error("cannot open health check port %d of service %s/%s: %s", number, *key, error)
            self._taken(key, number, _reason(error))
            return
        self._open[key] = port

    async def _close(self, key: ServiceKey) -> None:
        await _close(self._open.pop(key))

    async def close(self) -> None:
        for key in list(self._open):
            await self._close(key)


async def _close(port: _Port) -> None:
    for server in port.servers:
        await server.close(grace=0.5)


def _reason(error: OSError | CommandError) -> str:
    return os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else str(error)


def _local_ready(state: ServiceState) -> int:
    """The endpoints on this node that are ready, each address counted once."""
    return len(
        {endpoint.ip for backends in state for endpoint in backends.endpoints if endpoint.local and endpoint.ready}
    )
