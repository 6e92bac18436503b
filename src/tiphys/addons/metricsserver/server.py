"""``MetricsServer``: the composition of the metrics server, and its run."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from typing import NamedTuple

from tiphys.addons.aggregated import ServingPlace, serve_until_cancelled, wait_for_trust
from tiphys.addons.metricsserver.handler import MetricsHandler
from tiphys.addons.metricsserver.scraper import Scraper
from tiphys.addons.metricsserver.usage import Usage
from tiphys.client.delegated import DelegatedAccess
from tiphys.client.informer import Informer
from tiphys.client.resources import NODES, PODS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready
from tiphys.runtime.tasks import Runner
from tiphys.wire.reserving import reserve


class MetricsServerConfig(NamedTuple):
    """``tls`` reaches the kubelets, with ``token`` if there is one. Times in seconds."""

    serving: ServingPlace
    tls: ssl.SSLContext
    token: Callable[[], str] | None = None
    address_types: tuple[str, ...] = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")
    resolution: float = 60.0
    timeout: float = 10.0


class MetricsServer:
    """Needs a client with the rights of ClusterRole ``system:metrics-server`` and of ``system:auth-delegator``."""

    def __init__(self, config: MetricsServerConfig, client: Client, clock: Clock) -> None:
        self._config = config
        self._client = client
        self._clock = clock
        self._usage = Usage()
        rng = random.Random()
        self._nodes = Informer(client, NODES, clock, rng=rng)
        self._pods = Informer(client.metadata_only(), PODS, clock, rng=rng)

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled; ``ready`` is called once the API answers. Raises ``OSError`` if its port is taken."""
        serving = self._config.serving
        with reserve(serving.address, serving.port) as port:
            trust = await wait_for_trust(self._client, self._clock)
            async with Runner(self._clock, "metrics-server ") as runner:
                runner.supervise(self._nodes.run, "nodes")
                runner.supervise(self._pods.run, "pods")
                await self._nodes.wait_synced()
                await self._pods.wait_synced()
                runner.supervise(self._scraper().run, "scraper")
                access = DelegatedAccess.over(self._client, self._clock, trust)
                handler = MetricsHandler(self._usage, self._nodes, self._pods, self._clock, access=access)
                await serve_until_cancelled(serving, port, trust, handler, ready)

    def _scraper(self) -> Scraper:
        return Scraper(
            self._nodes,
            self._usage,
            self._clock,
            tls=self._config.tls,
            token=self._config.token,
            address_types=self._config.address_types,
            resolution=self._config.resolution,
            timeout=self._config.timeout,
        )
