"""The life of a process that runs controllers: its port, its events, and its work while it leads.

Source: https://kubernetes.io/docs/concepts/architecture/leases/#leader-election, and the flags that upstream's managers
share.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.leaderelection import LeaderElectionConfig, LeaderElector
from tiphys.controlkit.serving.pages import component_pages
from tiphys.controlkit.serving.port import open_port
from tiphys.controlkit.serving.settings import PortSettings
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart, Ready, whenever
from tiphys.runtime.metrics import Registry
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.wire.health import HealthHandler

NO_ALIASES: Mapping[str, str] = MappingProxyType({})
Work = Callable[[Ready], Awaitable[None]]
"""Runs the controllers until it is cancelled; calls ``Ready`` when they have read what they look after."""


class UnknownController(CannotStart):
    """``--controllers`` names a controller that does not exist."""


def choose(
    chosen: Iterable[str],
    known: Iterable[str],
    *,
    off_by_default: Iterable[str] = (),
    missing: Iterable[str] = (),
    aliases: Mapping[str, str] = NO_ALIASES,
) -> list[str]:
    """The names that a list such as ``*,-garbage-collector-controller`` chooses. Raises ``UnknownController``.

    ``missing`` are upstream's that are not here: they may be left out by name, and are refused if requested.
    """

    def current(word: str) -> str:
        name = word.removeprefix("-")
        return word.removesuffix(name) + aliases.get(name, name)

    names = list(known)
    absent = set(missing).difference(names)
    words = [word for word in map(current, chosen) if word not in {f"-{name}" for name in absent}]
    if asked := [word for word in words if word in absent]:
        raise UnknownController(f"upstream's {asked[0]} is not supported: leave it out of --controllers")
    if unknown := [word for word in words if word != "*" and word.removeprefix("-") not in names]:
        raise UnknownController(f'"{unknown[0]}" is not in the list of known controllers')
    off = set(off_by_default)
    return [name for name in names if f"-{name}" not in words and (name in words or ("*" in words and name not in off))]


class Runnable(Protocol):
    """A controller as its manager sees it. ``run`` returns only when it is cancelled."""

    async def run(self) -> None: ...


class Manager:
    """``run`` works until it is cancelled, or raises ``LostLease`` if another one has taken over.

    ``parts`` names what runs, for its status page; ``configuration`` is what /configz shows.
    """

    def __init__(
        self,
        *,
        name: str,
        client: Client,
        clock: Clock,
        recorder: EventRecorder,
        rng: random.Random,
        election: LeaderElectionConfig | None,
        serving: PortSettings | None,
        registry: Registry | None,
        parts: Callable[[], tuple[str, ...]],
        configuration: Callable[[], Mapping[str, Any]],
        work: Work,
    ) -> None:
        self._name, self._client, self._clock = name, client, clock
        self._recorder, self._rng = recorder, rng
        self._election, self._serving, self._registry = election, serving, registry
        self._parts, self._configuration, self._work = parts, configuration, work
        self.runners: list[Runner] = []
        """Whose loops health speaks of; ``work`` adds its own."""
        if registry is not None:
            registry.register(client.calls)

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once the controllers have read what they look after, or wait for the lease."""
        async with (
            open_port(self._serving, self._pages(), self._clock),
            Runner(self._clock, f"{self._name} ") as runner,
        ):
            self.runners = [runner]
            runner.supervise(self._recorder.run, "events")
            await self._lead(ready)

    def _pages(self) -> HealthHandler:
        leads = ("leaderElection",) if self._election else ()
        return component_pages(
            name=self._name,
            clock=self._clock,
            checks={"/healthz": self._stuck, "/livez": self._stuck, "/readyz": lambda: list(self.troubles())},
            metrics=self._registry.expose if self._registry is not None else None,
            parts=lambda: (*leads, *self._parts()),
            flags=self._serving.flags if self._serving else {},
            configuration=self._configuration,
        )

    def _stuck(self) -> list[str]:
        """Only what does not mend itself: whoever asks starts the manager again."""
        return list(self.troubles(MENDS_ITSELF_SECONDS))

    def troubles(self, since: float = 0.0) -> dict[str, str]:
        """The loops that have been failing for ``since`` seconds at least, by name."""
        return {name: error for runner in self.runners for name, error in runner.troubles(since).items()}

    async def _lead(self, ready: Ready) -> None:
        if self._election is None:
            await self._work(ready)
            return
        ready()
        elector = LeaderElector(self._election, self._client, self._clock, recorder=self._recorder, rng=self._rng)
        await elector.run(lambda: self._work(whenever))
