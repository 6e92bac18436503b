"""``ControllerManager``: runs the controllers, all over shared informers, perhaps only while it holds a Lease.

Source: https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tiphys.client.informer import InformerFactory
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.leaderelection import LeaderElector
from tiphys.controlkit.serving.pages import component_pages, describe
from tiphys.controlkit.serving.port import open_port
from tiphys.controllers.access.credentials import ClientFor, ServiceAccountClients
from tiphys.controllers.config import ControllerManagerConfig
from tiphys.controllers.context import ControllerContext, Runnable
from tiphys.controllers.registry import ALIASES, CONTROLLERS, DISABLED_BY_DEFAULT, MISSING
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart, Ready, after, whenever
from tiphys.runtime.metrics import Registry
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.health import Check, HealthHandler


class UnknownController(CannotStart):
    """``--controllers`` names a controller that does not exist."""


def select(
    chosen: Iterable[str], known: Iterable[str], off_by_default: Iterable[str] = DISABLED_BY_DEFAULT
) -> list[str]:
    """The names that a list such as ``*,-garbage-collector-controller`` chooses. Raises ``UnknownController``."""
    names = list(known)
    missing = MISSING.difference(names)
    words = [word for word in map(_current, chosen) if word not in {f"-{name}" for name in missing}]
    if asked := [word for word in words if word in missing]:
        raise UnknownController(f"upstream's {asked[0]} is not supported: leave it out of --controllers")
    if unknown := [word for word in words if word != "*" and word.removeprefix("-") not in names]:
        raise UnknownController(f'"{unknown[0]}" is not in the list of known controllers')
    off = set(off_by_default)
    return [name for name in names if f"-{name}" not in words and (name in words or ("*" in words and name not in off))]


def _current(word: str) -> str:
    name = word.removeprefix("-")
    return word.removesuffix(name) + ALIASES.get(name, name)


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
        if registry is not None:
            registry.collectors.register(client.calls)
        self._registry, self._rng = registry, rng or random.Random()
        self._recorder = EventRecorder(client, clock, "controller-manager", host=identity, rng=self._rng)
        self._client_for, self._bare = client_for, bare or client
        self.enabled = select(config.controllers, CONTROLLERS)
        self.informers: InformerFactory | None = None
        self._runners: list[Runner] = []

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once the controllers have read what they look after, or wait for the lease."""
        checks = {"/healthz": self._stuck, "/livez": self._stuck, "/readyz": lambda: list(self.troubles())}
        async with (
            open_port(self._config.serving, self._pages(checks), self._clock),
            Runner(self._clock, "kube-controller-manager ") as runner,
        ):
            self._runners = [runner]
            runner.supervise(self._recorder.run, "events")
            await self._lead(ready)

    def _pages(self, checks: Mapping[str, Check]) -> HealthHandler:
        serving = self._config.serving
        leads = ["leaderElection"] if self._config.leader_election else []
        return component_pages(
            name="kube-controller-manager",
            clock=self._clock,
            checks=checks,
            metrics=self._registry.expose if self._registry is not None else None,
            parts=lambda: (*leads, *self.enabled),
            flags=serving.flags if serving else {},
            configuration=lambda: {"kubecontrollermanager.config.k8s.io": describe(self._config)},
        )

    def _stuck(self) -> list[str]:
        """Only what does not mend itself: whoever asks starts the manager again."""
        return list(self.troubles(MENDS_ITSELF_SECONDS))

    def troubles(self, since: float = 0.0) -> dict[str, str]:
        """The loops that have been failing for ``since`` seconds at least, by name."""
        return {name: error for runner in self._runners for name, error in runner.troubles(since).items()}

    async def _lead(self, ready: Ready) -> None:
        election = self._config.leader_election
        if election is None:
            await self._work(ready)
        else:
            ready()
            elector = LeaderElector(election, self._client, self._clock, recorder=self._recorder, rng=self._rng)
            await elector.run(self._work)

    async def _work(self, ready: Ready = whenever) -> None:
        informers = InformerFactory(self._client, self._clock, self._rng)
        context = ControllerContext(
            self._client, informers, self._clock, self._recorder, self._config, self._registry, self._rng
        )
        self.informers = informers
        async with Runner(self._clock, "controller ") as runner:
            self._runners.append(runner)
            runner.supervise(informers.run, "informers")
            controllers = await self._make_controllers(context, runner)
            for name, controller in controllers.items():
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
