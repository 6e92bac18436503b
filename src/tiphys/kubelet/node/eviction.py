"""Eviction: when the node runs out of memory, disk or processes, a pod is evicted before the kernel picks one.

What is measured is read by ``read_signals``; everything else here is pure: which thresholds are crossed, and who goes
first. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tiphys.api.pods.resources import request_for
from tiphys.kubelet import labels
from tiphys.kubelet.node import machine
from tiphys.kubelet.node.gc import ImageGCFailure
from tiphys.kubelet.node.storage import DiskUse, StorageMeter
from tiphys.kubelet.node.storage_limits import exceeded, is_limited
from tiphys.kubelet.node.thresholds import Signal, Threshold, ThresholdWatch
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import value
from tiphys.kubelet.recorder import EventType
from tiphys.kubelet.runtime.service import ContainerStats, RuntimeFailure
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

PERIOD = 10.0
AT_ONCE = 1
"""Seconds that a pod has to end when a hard threshold is crossed."""

_CONDITIONS = {"memory.available": "MemoryPressure", "nodefs.available": "DiskPressure", "pid.available": "PIDPressure"}
_RESOURCES = {"memory.available": "memory", "nodefs.available": "ephemeral-storage", "pid.available": "pids"}
SIGNALS = frozenset(_CONDITIONS)


def read_signals(root: Path) -> dict[str, Signal]:
    """What the machine has left. ``root`` is the kubelet's folder."""
    place = next(path for path in (root, *root.parents) if path.exists())
    disk = shutil.disk_usage(place)
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    return {
        "memory.available": Signal(machine.memory_available(), machine.memory_total()),
        "nodefs.available": Signal(disk.free, disk.total),
        "pid.available": Signal(limit - running, limit),
    }


def urgency(threshold: Threshold) -> tuple[str, bool]:
    """Memory first, and of one signal what is hard."""
    return threshold.signal, not threshold.is_hard


def rank(candidates: Sequence[Pod], usage: Mapping[str, int], resource: str) -> list[Pod]:
    """The order of eviction: pods over their requests, then the less important, then the largest surplus."""

    def key(pod: Pod) -> tuple[bool, int, int]:
        surplus = usage.get(pods.uid_of(pod), 0) - request_for(pod, resource)
        return surplus <= 0, int(pod["spec"].get("priority") or 0), -surplus

    return sorted((pod for pod in candidates if not pods.is_critical(pod)), key=key)


def message(crossed: Threshold, available: int, pod: Pod, usage: Mapping[str, int]) -> str:
    """Upstream's words: what ran out, and which containers used more than they requested."""
    resource = _RESOURCES[crossed.signal]
    text = f"The node was low on resource: {resource}. "
    text += f"Threshold quantity: {crossed.text}, available: {available // 1024}Ki. "
    for container in pods.containers(pod):
        name = container["name"]
        request = ((container.get("resources") or {}).get("requests") or {}).get(resource, "0")
        if (used := usage.get(name, 0)) > value(request):
            text += (
                f"Container {name} was using {used // 1024}Ki, request is {request}, "
                f"has larger consumption of {resource}. "
            )
    return text


def layers_of(stats: Sequence[ContainerStats]) -> dict[str, dict[str, DiskUse]]:
    """What each container has written beside its volumes, by pod uid and name."""
    layers: dict[str, dict[str, DiskUse]] = {}
    for one in stats:
        name = one.labels.get(labels.CONTAINER_NAME, one.name)
        use = DiskUse(one.filesystem_used, one.filesystem_inodes)
        layers.setdefault(one.labels.get(labels.POD_UID, ""), {})[name] = use
    return layers


class Evict(Protocol):
    def __call__(self, pod: Pod, message: str, *, signal: str, disrupted: bool, grace: int = AT_ONCE) -> None:
        """End a pod within ``grace`` seconds. ``disrupted``: it did nothing wrong, but the node needs what it has."""


class EvictionManager:
    """``active()`` gives the pods that run; ``evict`` ends one; ``reclaim()`` frees disk without that; ``event`` is
    called with what happens to the node."""

    def __init__(
        self,
        *,
        thresholds: Sequence[Threshold],
        signals: Callable[[], Mapping[str, Signal]],
        stats: Callable[[], Awaitable[Sequence[ContainerStats]]],
        active: Callable[[], Sequence[Pod]],
        evict: Evict,
        reclaim: Callable[[], Awaitable[object]],
        event: Callable[[EventType, str, str], None] = lambda *_: None,
        clock: Clock,
        changed: Callable[[], None],
        storage: StorageMeter,
        transition: float = 300.0,
        longest_grace: int = 0,
    ) -> None:
        """``transition``: seconds that a node stays under pressure after the threshold was last crossed.

        ``longest_grace``: seconds that a pod has at the most to end for the sake of a soft threshold."""
        self._longest_grace = longest_grace
        self._storage = storage
        self._transition = transition
        self._watch = ThresholdWatch(thresholds, urgency)
        self._signals = signals
        self._stats = stats
        self._active = active
        self._evict = evict
        self._reclaim = reclaim
        self._event = event
        self._clock = clock
        self._changed = changed
        self._last_seen: dict[str, float] = {}

    @property
    def pressures(self) -> list[str]:
        """The node's conditions that are true now: MemoryPressure, DiskPressure, PIDPressure."""
        now = self._clock.monotonic()
        return sorted(name for name, seen in self._last_seen.items() if now - seen < self._transition)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD)
            try:
                if not await self.check_limits():
                    await self.check()
            except RuntimeFailure as error:
                log.warning("cannot measure what pods use: %s", error)

    async def check_limits(self) -> bool:
        """End every pod that stores more than it may; returns whether any does. Raises ``RuntimeFailure``."""
        limited = [pod for pod in self._active() if is_limited(pod)]
        if not limited:
            return False
        layers = layers_of(await self._stats())
        stored = await self._storage.measure(limited, PERIOD / 2)
        ended = False
        for pod in self._active():  # only those that still run
            uid = pods.uid_of(pod)
            if uid not in stored or pods.is_critical(pod):
                continue
            if excess := exceeded(pod, stored[uid], layers.get(uid, {})):
                log.warning("evicting pod %s: %s", pods.key_of(pod), excess.message)
                self._evict(pod, excess.message, signal=excess.signal, disrupted=False)
                ended = True
        return ended

    async def check(self) -> None:
        """Measure once, and end at most one pod. Raises ``RuntimeFailure``."""
        before, signals, now = self.pressures, self._signals(), self._clock.monotonic()
        crossed, counting = self._watch.look(signals, now)
        for threshold in crossed:
            self._last_seen[_CONDITIONS[threshold.signal]] = now
        if self.pressures != before:
            self._changed()
        if not counting:
            return
        first = counting[0]
        resource = _RESOURCES[first.signal]
        self._event("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if resource == "ephemeral-storage":
            try:
                await self._reclaim()
            except ImageGCFailure as error:
                log.warning("cannot free the disk without ending pods: %s", error)
            signals = self._signals()
            if not first.is_crossed(signals[first.signal], before=True):
                return
        by_pod, by_container = self._usage(await self._stats(), resource)
        for pod in rank(self._active(), by_pod, resource)[:1]:
            text = message(first, signals[first.signal].available, pod, by_container.get(pods.uid_of(pod), {}))
            log.warning("evicting pod %s: %s", pods.key_of(pod), text)
            self._evict(pod, text, signal=first.signal, disrupted=True, grace=self._grace(first, pod))

    def _grace(self, threshold: Threshold, pod: Pod) -> int:
        if threshold.is_hard:
            return AT_ONCE
        return min(self._longest_grace, pods.termination_grace(pod))

    def _usage(
        self, stats: Sequence[ContainerStats], resource: str
    ) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        by_pod: dict[str, int] = {}
        by_container: dict[str, dict[str, int]] = {}
        for container in stats:
            uid = container.labels.get(labels.POD_UID, "")
            used = container.memory_working_set if resource == "memory" else container.filesystem_used
            by_pod[uid] = by_pod.get(uid, 0) + used
            by_container.setdefault(uid, {})[container.labels.get(labels.CONTAINER_NAME, container.name)] = used
        return by_pod, by_container
