"""``ControllerManager``: runs the controllers, all over shared informers, perhaps only while it holds a Lease.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import replace

from tiphys.client.informer import InformerFactory
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.manager import Manager, Runnable, UnknownController, choose
from tiphys.controlkit.serving.pages import describe
from tiphys.controllers.access.credentials import ClientFor, ServiceAccountClients
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.registry import ALIASES, CONTROLLERS, DISABLED_BY_DEFAULT, MISSING
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, after, whenever
from tiphys.runtime.metrics import Registry
from tiphys.runtime.tasks import Runner


def select(
    chosen: Iterable[str], known: Iterable[str], off_by_default: Iterable[str] = DISABLED_BY_DEFAULT
) -> list[str]:
    """The names that ``--controllers`` chooses. Raises ``UnknownController``."""
    return choose(chosen, known, off_by_default=off_by_default, missing=MISSING, aliases=ALIASES)


__all__ = ["ControllerManager", "UnknownController", "select"]


class ControllerManager:
    """A component: ``run`` works until it is cancelled, or raises ``LostLease`` if another one has taken over."""

    def __init__(
        self,
        config: ControllerManagerConfig,
        client: Client,
        clock: Clock,
        *,
        registry: Registry | None = None,
        rng: random.Random | None = None,
        identity: str = "",
        client_for: ClientFor | None = None,
        bare: Client | None = None,
    ) -> None:
        """``bare`` is a client whose connections carry no certificate, for the tokens of service accounts; without it
        ``client`` has none. ``client_for`` gives the service accounts' clients in place of tokens."""
        self._config, self._client, self._clock = config, client, clock
        self._registry, self._rng = registry, rng or random.Random()
        self._recorder = EventRecorder(client, clock, "controller-manager", host=identity, rng=self._rng)
        self._client_for, self._bare = client_for, bare or client
        self.enabled = select(config.controllers, CONTROLLERS)
        self.informers: InformerFactory | None = None
        self._manager = Manager(
            name="kube-controller-manager",
            client=client,
            clock=clock,
            recorder=self._recorder,
            rng=self._rng,
            election=config.leader_election,
            serving=config.serving,
            registry=registry,
            parts=lambda: tuple(self.enabled),
            configuration=lambda: {"kubecontrollermanager.config.k8s.io": describe(config)},
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
        context = ControllerContext(
            self._client, informers, self._clock, self._recorder, self._config, self._registry, self._rng
        )
        self.informers = informers
        async with Runner(self._clock, "controller ") as runner:
            self._manager.runners.append(runner)
            runner.supervise(informers.run, "informers")
            controllers = await self._make_controllers(context, runner)
            interval = self._config.controller_start_interval
            for number, (name, controller) in enumerate(controllers.items()):
                if number and interval > 0:
                    await self._clock.sleep(interval * (1 + self._rng.random()))
                runner.supervise(controller.run, name)
            await after(ready, informers.wait_synced)
            await asyncio.Event().wait()

    async def _make_controllers(self, context: ControllerContext, runner: Runner) -> dict[str, Runnable]:
        """The enabled controllers that have something to do, each with the client of its service account."""
        client_for = self._client_for or ServiceAccountClients(self._client, self._bare, self._clock, runner).client_for
        rows = [row for name in self.enabled if (row := CONTROLLERS[name]).needed(self._config)]
        accounts = sorted({row.service_account for row in rows if row.service_account})
        clients = dict(zip(accounts, await asyncio.gather(*map(client_for, accounts)), strict=True))
        return {
            row.name: row.make(replace(context, client=clients.get(row.service_account, self._client))) for row in rows
        }
