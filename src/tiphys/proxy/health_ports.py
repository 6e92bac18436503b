"""Listens on the healthCheckNodePort of each service that has one.

Source: https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-policies
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tiphys.proxy.health import Health, service_handler
from tiphys.proxy.state import Family, ServiceKey, ServiceState
from tiphys.wire.server import Server, reserve, serve

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Port:
    number: int
    server: Server
    endpoints: int = 0


class HealthPorts:
    """``sync`` opens and closes listeners as services come and go; ``taken`` is called with the service, the port and
    the reason if one cannot be opened."""

    def __init__(self, family: Family, health: Health, taken: Callable[[ServiceKey, int, str], None]) -> None:
        self._host = "0.0.0.0" if family == "ip" else "::"
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

        try:
            # Each family's proxy has its own: endpoints on this node may be of one family only.
            sock = reserve(self._host, number, alone=True)
            server = await serve(service_handler(key, count, self._health), self._host, number, sock=sock)
        except OSError as error:
            log.error("cannot open health check port %d of service %s/%s: %s", number, *key, error.strerror)
            self._taken(key, number, os.strerror(error.errno or 0).lower())
            return
        self._open[key] = _Port(number, server)

    async def _close(self, key: ServiceKey) -> None:
        await self._open.pop(key).server.close(grace=0.5)

    async def close(self) -> None:
        for key in list(self._open):
            await self._close(key)


def _local_ready(state: ServiceState) -> int:
    """The endpoints on this node that are ready, each address counted once."""
    return len(
        {endpoint.ip for backends in state for endpoint in backends.endpoints if endpoint.local and endpoint.ready}
    )
