"""Eviction: when the node runs out of memory, disk or processes, a pod is evicted before the kernel picks one.

What is measured, which thresholds are crossed, and who goes first, are beside this: ``observing``, ``thresholds`` and
``ranking``. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tiphys.kubelet import labels
from tiphys.kubelet.node.imagegc import ImageGCFailure
from tiphys.kubelet.node.observing import Places
from tiphys.kubelet.node.ranking import PodUse, explain, pod_use, rank
from tiphys.kubelet.node.signals import RESOURCES, DiskLayout, Reclaim, condition_of, reclaims_for
from tiphys.kubelet.node.storage import DiskUse, PodStorage, StorageMeter
from tiphys.kubelet.node.storage_limits import exceeded, is_limited
from tiphys.kubelet.node.thresholds import Signal, Threshold, ThresholdWatch, describe_shortage, for_layout, met
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.runtime.service import ContainerStats, RuntimeFailure, RuntimeService
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PERIOD = 10.0
AT_ONCE = 1
"""Seconds that a pod has to end when a hard threshold is crossed."""
_LOOK_AGAIN = 1.0
_PATIENCE = 30.0
"""So long it is waited for a pod that was evicted, before it is measured again."""


def layers_of(stats: Sequence[ContainerStats]) -> dict[str, dict[str, DiskUse]]:
    """What each container has written beside its volumes, by pod uid and name."""
    layers: dict[str, dict[str, DiskUse]] = {}
    for one in stats:
        name = one.labels.get(labels.CONTAINER_NAME, one.name)
        use = DiskUse(one.filesystem_used, one.filesystem_inodes)
        layers.setdefault(one.labels.get(labels.POD_UID, ""), {})[name] = use
    return layers


class Evict(Protocol):
    def __call__(
        self,
        pod: Pod,
        message: str,
        *,
        signal: str,
        disrupted: bool,
        grace: int = AT_ONCE,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """End a pod within ``grace`` seconds. ``disrupted``: it did nothing wrong, but the node needs what it has."""


@dataclass(frozen=True, slots=True)
class EvictionPolicy:
    """``transition``: seconds that a node stays under pressure after a threshold was last crossed; ``longest_grace``:
    seconds that a pod has at the most to end for the sake of a soft one."""

    thresholds: Sequence[Threshold] = ()
    transition: float = 300.0
    longest_grace: int = 0


@dataclass(slots=True)
class NodeDisks:
    """How to learn where the runtime keeps what, what the node has left, and how to free its disks; ``reclaims`` may
    raise ``RuntimeFailure`` and ``ImageGCFailure``."""

    find: Callable[[], Awaitable[Places]]
    measure: Callable[[Places], Mapping[str, Signal]]
    reclaims: Mapping[Reclaim, Callable[[], Awaitable[object]]] = field(default_factory=dict)


class EvictionManager:
    """``active()`` gives the pods that run, and ``processes`` counts those of a pod, if anything does; ``evict`` ends
    one, and ``is_gone(uid)`` says when it has ended; ``event`` is called with what happens to the node."""

    def __init__(
        self,
        *,
        policy: EvictionPolicy,
        disks: NodeDisks,
        runtime: RuntimeService,
        storage: StorageMeter,
        processes: Callable[[Pod], int | None],
        active: Callable[[], Sequence[Pod]],
        evict: Evict,
        is_gone: Callable[[str], bool],
        event: Callable[[EventType, str, str], None],
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._policy = policy
        self._disks = disks
        self._runtime = runtime
        self._storage = storage
        self._processes = processes
        self._active = active
        self._evict = evict
        self._is_gone = is_gone
        self._event = event
        self._clock = clock
        self._changed = changed
        self._places: Places | None = None
        self._layout = DiskLayout()
        self._watch = ThresholdWatch(())
        self._last_seen: dict[str, float] = {}

    @property
    def pressures(self) -> list[str]:
        """The node's conditions that are true now: MemoryPressure, DiskPressure, PIDPressure."""
        now = self._clock.monotonic()
        return sorted(name for name, seen in self._last_seen.items() if now - seen < self._policy.transition)

    async def run(self) -> None:
        await self._clock.sleep(PERIOD)
        while True:
            ended: Sequence[str] = ()
            try:
                ended = await self.check()
            except (RuntimeFailure, OSError) as error:
                log.warning("cannot measure what the node has left: %s", error)
            if ended:
                await self._wait_for(ended)
            else:
                await self._clock.sleep(PERIOD)

    async def _wait_for(self, ended: Collection[str]) -> None:
        """Wait for these pods to end, so that what they used is not missed twice."""
        until = self._clock.monotonic() + _PATIENCE
        while True:
            await self._clock.sleep(_LOOK_AGAIN)
            if all(map(self._is_gone, ended)) or self._clock.monotonic() >= until:
                return

    async def check(self) -> list[str]:
        """Measure once; end pods that store more than they may, and otherwise at most one for the node's sake. Gives
        the uids of those that were ended. Raises ``RuntimeFailure`` and ``OSError``."""
        await self._learn_layout()
        before, signals, now = self.pressures, self._signals(), self._clock.monotonic()
        crossed, counting = self._watch.look(signals, now)
        for threshold in crossed:
            self._last_seen[condition_of(threshold.signal)] = now
        if self.pressures != before:
            self._changed()
        if ended := await self.check_limits():
            return ended
        if not counting:
            return []
        first = counting[0]
        resource = RESOURCES[first.signal]
        log.warning("threshold %s<%s is crossed: attempting to reclaim %s", first.signal, first.text, resource)
        self._event("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if await self._freed_without(first):
            return []
        return await self._evict_one(first, describe_shortage(resource, counting, signals))

    async def _learn_layout(self) -> None:
        """Once the runtime has said where it keeps what."""
        if self._places is None:
            places = await self._disks.find()
            self._layout = places.layout
            self._watch = ThresholdWatch(for_layout(self._policy.thresholds, self._layout))
            self._places = places

    def _signals(self) -> Mapping[str, Signal]:
        assert self._places is not None
        return self._disks.measure(self._places)

    async def check_limits(self) -> list[str]:
        """End every pod that stores more than it may; gives their uids. Raises ``RuntimeFailure``."""
        limited = [pod for pod in self._active() if is_limited(pod)]
        if not limited:
            return []
        layers = layers_of(await self._runtime.list_container_stats())
        stored = await self._storage.measure(limited, PERIOD / 2)
        ended = []
        for pod in self._active():  # only those that still run
            uid = pods.uid_of(pod)
            if uid not in stored or pods.is_critical(pod):
                continue
            excess = exceeded(pod, stored[uid], layers.get(uid, {}), layers_count=not self._layout.dedicated)
            if excess is not None:
                log.warning("evicting pod %s: %s", pods.key_of(pod), excess.message)
                self._evict(pod, excess.message, signal=excess.signal, disrupted=False)
                ended.append(uid)
        return ended

    async def _freed_without(self, threshold: Threshold) -> bool:
        """Free what can be freed without ending pods; whether that is enough, for every threshold."""
        reclaims = [self._disks.reclaims[each] for each in reclaims_for(threshold.signal, self._layout)]
        for reclaim in reclaims:
            try:
                await reclaim()
            except (RuntimeFailure, ImageGCFailure) as error:
                log.warning("cannot free the disk without ending pods: %s", error)
        return bool(reclaims) and not met(self._watch.thresholds, self._signals(), before=True)

    async def _evict_one(self, threshold: Threshold, shortage: str) -> list[str]:
        uses = await self._uses()
        resource = RESOURCES[threshold.signal]
        for pod in rank(threshold.signal, self._layout, self._active(), uses):
            uid = pods.uid_of(pod)
            if pods.is_critical(pod):
                log.warning("pod %s is critical, and is not evicted", pods.key_of(pod))
                continue
            text, annotations = explain(resource, pod, uses.get(uid), shortage)
            log.warning("evicting pod %s: %s", pods.key_of(pod), text)
            grace = self._grace(threshold, pod)
            self._evict(pod, text, signal=threshold.signal, disrupted=True, grace=grace, annotations=annotations)
            return [uid]
        log.warning("no pod can be evicted for want of %s", resource)
        return []

    def _grace(self, threshold: Threshold, pod: Pod) -> int:
        return AT_ONCE if threshold.is_hard else min(self._policy.longest_grace, pods.termination_grace(pod))

    async def _uses(self) -> dict[str, PodUse]:
        """What pods use, by uid."""
        stats = await self._runtime.list_container_stats()
        active = self._active()
        stored = await self._storage.measure(active, PERIOD / 2)
        processes = {pods.uid_of(pod): self._processes(pod) for pod in active}
        containers: dict[str, dict[str, tuple[int, DiskUse]]] = {}
        for one in stats:
            name, uid = one.labels.get(labels.CONTAINER_NAME, one.name), one.labels.get(labels.POD_UID, "")
            layer = DiskUse(one.filesystem_used, one.filesystem_inodes)
            containers.setdefault(uid, {})[name] = (one.memory_working_set, layer)
        return {
            uid: pod_use(stored.get(uid, PodStorage()), of_pod, processes.get(uid) or 0)
            for uid, of_pod in containers.items()
        }
