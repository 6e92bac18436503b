"""``Scraper``: asks every node's kubelet what it measures, all at once, and keeps the answers.

A node that does not answer in time is left out of the round, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.addons.metricsserver.exposition import Sample, read
from tiphys.addons.metricsserver.usage import Usage
from tiphys.api.object import Object
from tiphys.client.informer import Informer
from tiphys.runtime.clock import Clock
from tiphys.wire.client import SocketTransport
from tiphys.wire.http import Headers, Request
from tiphys.wire.transports import Transports

log = logging.getLogger(__name__)


_PATH = "/metrics/resource"
_MAX_BYTES = 8 << 20
_AT_ONCE = 64


class Scraper:
    """``address_types``: which of a node's addresses its kubelet is reached at, best first. Times in seconds."""

    def __init__(
        self,
        nodes: Informer,
        usage: Usage,
        clock: Clock,
        *,
        tls: ssl.SSLContext,
        token: Callable[[], str] | None,
        address_types: tuple[str, ...],
        resolution: float,
        timeout: float,
    ) -> None:
        self._nodes = nodes
        self._usage = usage
        self._clock = clock
        self._tls = tls
        self._token = token
        self._address_types = address_types
        self._resolution = resolution
        self._timeout = timeout
        self._transports: Transports[tuple[str, int, str]] = Transports(self._make)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def _make(self, key: tuple[str, int, str]) -> SocketTransport:
        host, port, _ = key
        return SocketTransport(host, port, self._tls)

    async def run(self) -> None:
        """A round of questions every ``resolution`` seconds, until cancelled."""
        try:
            while True:
                self._usage.store(await self.round())
                await self._clock.sleep(self._resolution)
        finally:
            await self._transports.close()

    async def round(self) -> dict[str, Sample]:
        """What each node's kubelet says, by node; without those that do not answer."""
        nodes = self._nodes.store.list()
        answers = await asyncio.gather(*(self._ask(node) for node in nodes))
        return {
            node["metadata"]["name"]: sample for node, sample in zip(nodes, answers, strict=True) if sample is not None
        }

    async def _ask(self, node: Object) -> Sample | None:
        name = node["metadata"]["name"]
        try:
            async with self._slots, asyncio.timeout(self._timeout):
                return read(await self._fetch(name, *kubelet_address(node, self._address_types)), self._clock.now())
        except (ConnectionError, OSError, TimeoutError, LookupError, ssl.SSLError) as error:
            log.warning("failed to scrape node %s: %s", name, str(error) or type(error).__name__)
            return None

    async def _fetch(self, name: str, host: str, port: int) -> bytes:
        """The text of the metrics. Raises ``ConnectionError`` for an answer that is none."""
        headers = Headers({"accept": "text/plain;version=0.0.4"})
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token()}"
        transport = self._transports.get((host, port, name))
        response = await transport.send(Request("GET", _PATH, headers=headers))
        text = bytearray()
        async for chunk in response.chunks():
            text += chunk
            if len(text) > _MAX_BYTES:
                await response.close()
                raise ConnectionError(f"the answer is larger than {_MAX_BYTES} bytes")
        if response.status != 200:
            raise ConnectionError(f"request failed, status: {response.status}")
        return bytes(text)


def kubelet_address(node: Object, types: tuple[str, ...]) -> tuple[str, int]:
    """Host and port of a node's kubelet. Raises ``LookupError``."""
    status: Mapping[str, Any] = node.get("status") or {}
    addresses = {entry["type"]: entry["address"] for entry in reversed(status.get("addresses") or ())}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
    for type in types:
        if type in addresses:
            return addresses[type], port
    raise LookupError(f"node {node['metadata']['name']} has no address of the types {', '.join(types)}")
