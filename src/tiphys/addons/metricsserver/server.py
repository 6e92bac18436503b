"""``MetricsServer``: the composition of the metrics server, and its run."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tiphys.addons.metricsserver.handler import MetricsHandler
from tiphys.addons.metricsserver.scraper import Scraper
from tiphys.addons.metricsserver.usage import Usage
from tiphys.client.delegated import AccessReviews, DelegatedAuthentication, TokenReviews, Trust, read_trust
from tiphys.client.errors import ApiError
from tiphys.client.informer import Informer
from tiphys.client.resources import NODES, PODS
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready
from tiphys.runtime.tasks import Runner
from tiphys.wire.server import reserve, serve
from tiphys.wire.tls.contexts import server_context

log = logging.getLogger(__name__)

_REMEMBER_SECONDS = 10.0
_RETRY_SECONDS = 0.1


class MetricsServerConfig(NamedTuple):
    """``tls`` reaches the kubelets, with ``token`` if there is one. Times in seconds."""

    cert: Path
    key: Path
    tls: ssl.SSLContext
    token: Callable[[], str] | None = None
    address: str = "0.0.0.0"
    port: int = 10250
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
        with reserve(self._config.address, self._config.port) as port:
            trust = await self._trust()
            async with Runner(self._clock, "metrics-server ") as runner:
                runner.supervise(self._nodes.run, "nodes")
                runner.supervise(self._pods.run, "pods")
                await self._nodes.wait_synced()
                await self._pods.wait_synced()
                runner.supervise(self._scraper().run, "scraper")
                tls = server_context(self._config.cert, self._config.key, trust.authorities or None)
                server = await serve(self._handler(trust), "", 0, tls=tls, sock=port)
                try:
                    ready()
                    await asyncio.Event().wait()
                finally:
                    await server.close(grace=0.5)

    def _handler(self, trust: Trust) -> MetricsHandler:
        reviews = AccessReviews(self._client, self._clock, _REMEMBER_SECONDS, _REMEMBER_SECONDS)
        tokens = TokenReviews(self._client, self._clock, _REMEMBER_SECONDS)
        return MetricsHandler(
            self._usage,
            self._nodes,
            self._pods,
            self._clock,
            authentication=DelegatedAuthentication(trust, tokens),
            reviews=reviews,
        )

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

    async def _trust(self) -> Trust:
        """Whom to believe, as the API server says; waits until it does."""
        while True:
            try:
                return await read_trust(self._client)
            except (ApiError, ConnectionError) as error:
                log.warning("cannot read whom to believe yet: %s", error)
                await self._clock.sleep(_RETRY_SECONDS)
