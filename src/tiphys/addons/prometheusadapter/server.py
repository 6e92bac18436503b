"""``PrometheusAdapter``: the composition of the adapter, and its run."""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.addons.aggregated import ServingPlace, serve_until_cancelled, wait_for_trust
from tiphys.addons.prometheusadapter.handler import AdapterHandler
from tiphys.addons.prometheusadapter.prometheus import Prometheus
from tiphys.addons.prometheusadapter.relister import Relister
from tiphys.addons.prometheusadapter.rules import Rules
from tiphys.client.delegated import DelegatedAccess
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready
from tiphys.runtime.tasks import Runner
from tiphys.wire.reserving import reserve


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Times in seconds."""

    rules: Rules
    serving: ServingPlace
    relist_interval: float
    max_age: float


async def serve_adapter(
    config: AdapterConfig, prometheus: Prometheus, client: Client, clock: Clock, ready: Ready
) -> None:
    """Serve until cancelled. Needs the rights of ClusterRole ``system:auth-delegator``, and to list what metrics
    are about. Raises ``OSError`` if the port is taken."""
    with reserve(config.serving.address, config.serving.port) as port:
        trust = await wait_for_trust(client, clock)
        relister = Relister(
            config.rules, prometheus, client, clock, interval=config.relist_interval, max_age=config.max_age
        )
        async with Runner(clock, "prometheus-adapter ") as runner:
            runner.supervise(relister.run, "relister")
            access = DelegatedAccess.over(client, clock, trust)
            handler = AdapterHandler(lambda: relister.catalog, prometheus, client, access)
            await serve_until_cancelled(config.serving, port, trust, handler, ready)
