"""``Autoscaler``: looks at the cluster again and again, makes nodes for pods that wait for room, and ends empty ones.

A look: picture → how many to make (``decision.grow``) → make them; or → which is unneeded (``unneeded``, ``shrink``) →
taint it, see once more that it is empty, end its machine, delete its Node.

Source: https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, replace

from tiphys.addons.autoscaler.decision import Group, Growth, Picture, grow, is_empty, is_ready, shrink, unneeded
from tiphys.api.meta.objects import name_of, uid_of
from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.informer import Informer, Store, without_managed_fields
from tiphys.client.resources import (
    CSI_DRIVERS,
    CSI_NODES,
    DAEMON_SETS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SERVICES,
    STORAGE_CLASSES,
)
from tiphys.client.rest import Client
from tiphys.cloud.provider import CloudError, Machines
from tiphys.controlkit.events import EventRecorder
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

AGENT = "cluster-autoscaler"
LEAVING = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
_AFTER_FAILURE = 60.0
_MOST_EVENTS = 50
_READ = (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, SERVICES, CSI_NODES, CSI_DRIVERS)
"""What the scheduler's plugins read beside nodes and pods."""


@dataclass(frozen=True, slots=True)
class AutoscalerConfig:
    """Times in seconds."""

    group: Group
    scan_interval: float = 10.0
    unneeded_time: float = 600.0
    delay_after_add: float = 600.0


class Autoscaler:
    def __init__(self, config: AutoscalerConfig, client: Client, machines: Machines, clock: Clock) -> None:
        self._config, self._client, self._machines, self._clock = config, client, machines, clock
        rng = random.Random()
        self._recorder = EventRecorder(client, clock, AGENT, rng=rng)

        def informer(resource: object) -> Informer:
            return Informer(client, resource, clock, transform=without_managed_fields, rng=rng)  # type: ignore[arg-type]

        self._nodes, self._pods, self._daemon_sets = (informer(each) for each in (NODES, PODS, DAEMON_SETS))
        self._others = {each.plural: informer(each) for each in _READ}
        self._made: dict[str, float] = {}
        """When each node was asked for that is not Ready yet."""
        self._unneeded: dict[str, float] = {}
        self._last_add = float("-inf")
        self._not_before = 0.0

    async def run(self, ready: Ready) -> None:
        """Look every ``scan_interval`` until cancelled; ``ready`` is called once the cluster is known."""
        async with Runner(self._clock, f"{AGENT} ") as runner:
            runner.supervise(self._recorder.run, "events")
            informers = {"nodes": self._nodes, "pods": self._pods, "daemon sets": self._daemon_sets, **self._others}
            for name, informer in informers.items():
                runner.supervise(informer.run, name)
            for informer in informers.values():
                await informer.wait_synced()
            ready()
            while True:
                await self._contained()
                await self._clock.sleep(self._config.scan_interval)

    async def _contained(self) -> None:
        try:
            await self.look()
        except (CloudError, ApiError, ConnectionError, TimeoutError) as error:
            log.warning("this look at the cluster ends here: %s", error)
            self._not_before = self._clock.monotonic() + _AFTER_FAILURE

    async def look(self) -> None:
        """Look once. Raises ``CloudError``, ``ApiError``, ``ConnectionError`` and ``TimeoutError``."""
        if self._clock.monotonic() < self._not_before:
            return
        group = self._config.group
        picture = self._picture(await self._machines.template())
        growth = await asyncio.to_thread(grow, picture, group)  # on copies: nothing changes under its hands
        members = sum(group.has(name_of(node)) for node in picture.nodes)
        if growth.names:
            await self._make(growth, members)
        else:
            self._explain(growth)
            await self._end_one(picture, members)

    def _picture(self, template: Object) -> Picture:
        now = self._clock.monotonic()
        nodes = self._nodes.store.list()
        there = {name_of(node) for node in nodes if is_ready(node)}
        self._made = {name: since for name, since in self._made.items() if name not in there}
        stores = {}
        for plural, informer in self._others.items():
            stores[plural] = Store()
            for obj in informer.store.list():
                stores[plural].put(obj)
        return Picture(
            nodes=nodes,
            pods=self._pods.store.list(),
            daemon_sets=self._daemon_sets.store.list(),
            template=template,
            now=now,
            made=dict(self._made),
            stores=stores,
        )

    async def _make(self, growth: Growth, members: int) -> None:
        group = self._config.group
        change = f"[{{{group.prefix} {members}->{members + len(growth.names)} (max: {group.most})}}]"
        for pod in growth.helped[:_MOST_EVENTS]:
            self._recorder.event(pod, "Normal", "TriggeredScaleUp", f"pod triggered scale-up: {change}")
        for name in growth.names:
            log.info("making node %s", name)
            self._made[name] = self._clock.monotonic()
            try:
                await self._machines.create(name)
            except CloudError:
                del self._made[name]
                raise
            self._last_add = self._clock.monotonic()

    def _explain(self, growth: Growth) -> None:
        for pod in growth.left[:_MOST_EVENTS]:
            self._recorder.event(
                pod,
                "Normal",
                "NotTriggerScaleUp",
                "pod didn't trigger scale-up: no node that may be made has room for it",
            )

    async def _end_one(self, picture: Picture, members: int) -> None:
        """End the node that has been unneeded longest, if it is time."""
        config, now = self._config, self._clock.monotonic()
        candidates = unneeded(picture, config.group)
        self._unneeded = {name: self._unneeded.get(name, now) for name in candidates}
        if now - self._last_add < config.delay_after_add:
            return
        name = shrink(candidates, self._unneeded, now, config.unneeded_time, config.group, members)
        node = self._nodes.store.get("", name) if name else None
        if node is not None:
            await self._end(node)

    async def _end(self, node: Object) -> None:
        name = name_of(node)
        await self._taint(name, leaving=True)
        listed = await self._client.list(PODS, field_selector=f"spec.nodeName={name}")
        if not is_empty(node, listed.get("items") or ()):
            log.info("node %s has a pod by now, and stays", name)
            await self._taint(name, leaving=False)
            return
        log.info("ending node %s, which was empty", name)
        self._recorder.event(node, "Normal", "ScaleDown", "node removed by cluster autoscaler")
        try:
            await self._machines.delete(node)
        except CloudError:
            await self._taint(name, leaving=False)
            raise
        self._unneeded.pop(name, None)
        try:
            await self._client.delete(NODES, name, uid=uid_of(node))
        except NotFound:
            log.info("node %s was deleted already", name)

    async def _taint(self, name: str, *, leaving: bool) -> None:
        node = await self._client.get(NODES, name)
        taints = [taint for taint in node["spec"].get("taints") or () if taint["key"] != LEAVING["key"]]
        wanted = [*taints, LEAVING] if leaving else taints
        meta = {"resourceVersion": node["metadata"]["resourceVersion"]}
        await self._client.patch(NODES, name, {"metadata": meta, "spec": {"taints": wanted}})


def with_bounds(config: AutoscalerConfig, text: str) -> AutoscalerConfig:
    """``MIN:MAX`` or ``MIN:MAX:NAME`` as the config's group. Raises ``ValueError`` with one line."""
    parts = text.split(":")
    if (
        len(parts) not in (2, 3)
        or not all(part.isdecimal() for part in parts[:2])
        or (len(parts) == 3 and not parts[2])
    ):
        raise ValueError(f"{text!r} is not MIN:MAX or MIN:MAX:NAME, such as 0:3")
    least, most = int(parts[0]), int(parts[1])
    if least > most:
        raise ValueError(f"{text!r}: the least number of nodes is above the most")
    prefix = parts[2] if len(parts) == 3 else config.group.prefix
    return replace(config, group=Group(prefix, least, most))
