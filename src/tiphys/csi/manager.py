"""Runs the controllers of one driver: those that it has a use for by what it says that it can do.

Source: https://kubernetes-csi.github.io/docs/sidecar-containers.html
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.client.informer import InformerFactory
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.leaderelection import LeaderElectionConfig, LeaderElector
from tiphys.controlkit.manager import Runnable
from tiphys.csi.attacher import Attacher
from tiphys.csi.capacity import CapacityPublisher
from tiphys.csi.connection import Connection, DriverFacts, read_facts
from tiphys.csi.context import DriverContext, DriverOptions
from tiphys.csi.provisioner.controller import Provisioner
from tiphys.csi.provisioner.reclaim import Reclaimer
from tiphys.csi.resizer import Resizer
from tiphys.csi.snapshots.controller import Snapshotter
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, after, whenever
from tiphys.runtime.tasks import Runner

CONTROLLERS = ("provisioner", "attacher", "resizer", "snapshotter")


@dataclass(frozen=True, slots=True)
class ManagerConfig:
    """``identity`` is this process's alone; ``election`` is None if it is the only one."""

    identity: str
    options: DriverOptions = field(default_factory=DriverOptions)
    election: LeaderElectionConfig | None = None
    controllers: tuple[str, ...] = CONTROLLERS


class DriverControllers:
    """``run`` works until it is cancelled, or raises ``LostLease`` if another one has taken over."""

    def __init__(self, config: ManagerConfig, client: Client, connection: Connection, clock: Clock) -> None:
        self._config = config
        self._client = client
        self._connection = connection
        self._clock = clock
        self._rng = random.Random()
        self._recorder = EventRecorder(client, clock, "csi-controller", host=config.identity, rng=self._rng)

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once the controllers have read what they look after, or wait for the lease."""
        facts = await read_facts(self._connection, self._clock)
        async with Runner(self._clock, f"{facts.name} ") as runner:
            runner.supervise(self._recorder.run, "events")
            election = self._config.election
            if election is None:
                await self._work(facts, ready)
            else:
                ready()
                elector = LeaderElector(election, self._client, self._clock, recorder=self._recorder, rng=self._rng)
                await elector.run(lambda: self._work(facts, whenever))

    async def _work(self, facts: DriverFacts, ready: Ready) -> None:
        informers = InformerFactory(self._client, self._clock, self._rng)
        context = DriverContext(
            client=self._client,
            informers=informers,
            connection=self._connection,
            facts=facts,
            clock=self._clock,
            recorder=self._recorder,
            options=self._config.options,
        )
        async with Runner(self._clock, f"{facts.name} ") as runner:
            runner.supervise(informers.run, "informers")
            for name, controller in make(context, self._config).items():
                runner.supervise(controller.run, name)
            await after(ready, informers.wait_synced)
            await asyncio.Event().wait()


def make(context: DriverContext, config: ManagerConfig) -> Mapping[str, Runnable]:
    """The controllers by name that the driver has a use for."""
    made: dict[str, Runnable] = {}
    can = context.facts.controller
    if "provisioner" in config.controllers and "CREATE_DELETE_VOLUME" in can:
        made["provisioner"] = Provisioner(context, config.identity)
        made["reclaim"] = Reclaimer(context)
        if "GET_CAPACITY" in can and context.facts.has_topology:
            manager = "-".join(part for part in (context.facts.name, context.options.node) if part)
            made["capacity"] = CapacityPublisher(context, manager)
    if "attacher" in config.controllers:
        made["attacher"] = Attacher(context)
    if "resizer" in config.controllers and can & {"EXPAND_VOLUME", "MODIFY_VOLUME"}:
        made["resizer"] = Resizer(context)
    if "snapshotter" in config.controllers and "CREATE_DELETE_SNAPSHOT" in can:
        made["snapshotter"] = Snapshotter(context)
    return made
