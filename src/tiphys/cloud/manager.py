"""``CloudControllerManager``: runs the controllers of one cloud, while it leads.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/
"""

from __future__ import annotations

import asyncio
import logging
import random

from tiphys.client.informer import InformerFactory
from tiphys.client.rest import Client
from tiphys.cloud.context import CloudConfig, CloudContext
from tiphys.cloud.provider import CloudProvider
from tiphys.cloud.registry import ALIASES, CONTROLLERS, MISSING
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.manager import Manager, choose
from tiphys.controlkit.serving.pages import describe
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, after, whenever
from tiphys.runtime.metrics import Registry
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

NAME = "cloud-controller-manager"


def enabled(config: CloudConfig) -> list[str]:
    """The controllers that the configuration chooses. Raises ``UnknownController``."""
    return choose(config.controllers, CONTROLLERS, missing=MISSING, aliases=ALIASES)


class CloudControllerManager:
    """A component: ``run`` works until it is cancelled, or raises ``LostLease`` if another one has taken over."""

    def __init__(
        self,
        *,
        config: CloudConfig,
        cloud: CloudProvider,
        client: Client,
        clock: Clock,
        registry: Registry | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._config, self._cloud, self._client, self._clock = config, cloud, client, clock
        self._registry, self._rng = registry, rng or random.Random()
        identity = config.leader_election.identity if config.leader_election else ""
        self._recorder = EventRecorder(client, clock, NAME, host=identity, rng=self._rng)
        self._manager = Manager(
            name=NAME,
            client=client,
            clock=clock,
            recorder=self._recorder,
            rng=self._rng,
            election=config.leader_election,
            serving=config.serving,
            registry=registry,
            parts=lambda: tuple(enabled(config)),
            configuration=lambda: {"cloudcontrollermanager.config.k8s.io": describe(config)},
            work=self._work,
        )

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once the controllers have read what they look after, or wait for the lease."""
        await self._manager.run(ready)

    def troubles(self, since: float = 0.0) -> dict[str, str]:
        """The loops that have been failing for ``since`` seconds at least, by name."""
        return self._manager.troubles(since)

    async def _work(self, ready: Ready) -> None:
        informers = InformerFactory(self._client, self._clock, self._rng)
        context = CloudContext(
            cloud=self._cloud,
            client=self._client,
            informers=informers,
            clock=self._clock,
            recorder=self._recorder,
            config=self._config,
            registry=self._registry,
            rng=self._rng,
        )
        async with Runner(self._clock, "cloud controller ") as runner:
            self._manager.runners.append(runner)
            made = {name: CONTROLLERS[name](context) for name in enabled(self._config)}
            runner.supervise(informers.run, "informers")
            for name, controller in made.items():
                if controller is None:
                    log.info("%s has nothing to do with the cloud %s", name, self._cloud.name)
                else:
                    runner.supervise(controller.run, name)
            await after(ready, informers.wait_synced)
            await asyncio.Event().wait()
