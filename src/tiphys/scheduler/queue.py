"""``SchedulingQueue``: which pod is next.

A pod is in one of three places. *Active*: to be tried, the most important first. *Backing off*: failed a moment ago,
and something has changed since; it becomes active after 1 s, then 2 s … 10 s. *Unschedulable*: nothing that could help
has happened yet; it leaves when an event comes that one of the plugins which rejected it finds helpful, or after five
minutes in any case. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/ and KEP-4247.

Time is passed in: the queue has no clock and no tasks, and ``next_wakeup`` says when to call ``flush``.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any

from tiphys.scheduler.framework.events import ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.podinfo import PodInfo, QueuedPod
from tiphys.scheduler.framework.status import Status

log = logging.getLogger(__name__)

LEFTOVER_AFTER = 300.0
LEFTOVER_EVERY = 30.0


class QueuePlace(Enum):
    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"


@dataclass(slots=True)
class _Entry:
    queued: QueuedPod
    place: QueuePlace
    ticket: int
    """The heap item that counts; older ones of the same pod are stale."""


class _Heap:
    """A heap whose items are dropped when they turn out to be stale."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, int, str]] = []

    def push(self, key: Any, ticket: int, uid: str) -> None:
        heapq.heappush(self.items, (key, ticket, uid))


class SchedulingQueue:
    def __init__(
        self,
        key: Callable[[QueuedPod], Any],
        pre_enqueue: Callable[[PodInfo], Status | None],
        registrations: Mapping[str, Iterable[Registration]],
        *,
        initial_backoff: float = 1.0,
        max_backoff: float = 10.0,
        leftover_after: float = LEFTOVER_AFTER,
    ) -> None:
        self._key = key
        self._pre_enqueue = pre_enqueue
        self._registrations = {name: tuple(hooks) for name, hooks in registrations.items()}
        self._initial, self._max, self._leftover_after = initial_backoff, max_backoff, leftover_after
        self._entries: dict[str, _Entry] = {}
        self._unschedulable: dict[str, QueuedPod] = {}
        self._active, self._backoff = _Heap(), _Heap()
        self._sizes = dict.fromkeys(QueuePlace, 0)
        self._tickets = count()
        self._next_leftovers = LEFTOVER_EVERY

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, uid: str) -> bool:
        return uid in self._entries

    def get(self, uid: str) -> PodInfo | None:
        entry = self._entries.get(uid)
        return entry.queued.pod if entry is not None else None

    def size(self, place: QueuePlace) -> int:
        return self._sizes[place]

    # -- coming -------------------------------------------------------------------------------------------------------

    def add(self, pod: PodInfo, now: float) -> None:
        """A new pod."""
        if pod.uid not in self._entries:
            self._enqueue(QueuedPod(pod, now), now)

    def add_unschedulable(self, queued: QueuedPod, now: float) -> None:
        """A pod that was just tried and rejected by ``unschedulable_plugins``, or that failed by an error (none)."""
        if queued.uid in self._entries:
            return
        queued.timestamp = now
        if queued.unschedulable_plugins:
            queued.unschedulable_count += 1
            queued.error_count = 0
            self._put(queued, QueuePlace.UNSCHEDULABLE)
        else:
            queued.error_count += 1
            self._put(queued, QueuePlace.BACKOFF)

    def _enqueue(self, queued: QueuedPod, now: float) -> None:
        """Make it active, unless a plugin keeps it out."""
        try:
            status = self._pre_enqueue(queued.pod)
        except Exception:
            log.exception("a plugin failed on pod %s/%s; it is tried again", *queued.pod.key)
            queued.timestamp = now
            queued.error_count += 1
            self._put(queued, QueuePlace.BACKOFF)
            return
        if status is not None:
            queued.gated_by = status.plugin
            queued.unschedulable_plugins.add(status.plugin)
            self._put(queued, QueuePlace.UNSCHEDULABLE)
            return
        queued.gated_by = ""
        self._put(queued, QueuePlace.ACTIVE)

    def _put(self, queued: QueuedPod, place: QueuePlace) -> None:
        self._remove(queued.uid)
        ticket = next(self._tickets)
        self._entries[queued.uid] = _Entry(queued, place, ticket)
        self._sizes[place] += 1
        if place is QueuePlace.UNSCHEDULABLE:
            self._unschedulable[queued.uid] = queued
        elif place is QueuePlace.ACTIVE:
            self._active.push(self._key(queued), ticket, queued.uid)
        else:
            self._backoff.push(self._backoff_ends(queued), ticket, queued.uid)

    # -- going --------------------------------------------------------------------------------------------------------

    def pop(self, now: float) -> QueuedPod | None:
        """The next pod to try; if none is active, one that was rejected and backs off, as nothing else is to do."""
        entry = self._head(self._active, QueuePlace.ACTIVE)
        if entry is None:
            entry = self._head(self._backoff, QueuePlace.BACKOFF)
            if entry is None or entry.queued.error_count:
                return None
            self._enqueue(entry.queued, now)
            entry = self._head(self._active, QueuePlace.ACTIVE)
            if entry is None:
                return None
        queued = entry.queued
        self._remove(queued.uid)
        queued.attempts += 1
        if queued.first_attempt is None:
            queued.first_attempt = now
        return queued

    def _head(self, heap: _Heap, place: QueuePlace) -> _Entry | None:
        while heap.items:
            _, ticket, uid = heap.items[0]
            entry = self._entries.get(uid)
            if entry is not None and entry.ticket == ticket and entry.place is place:
                return entry
            heapq.heappop(heap.items)
        return None

    def delete(self, uid: str) -> None:
        self._remove(uid)

    def _remove(self, uid: str) -> None:
        entry = self._entries.pop(uid, None)
        if entry is not None:
            self._sizes[entry.place] -= 1
            self._unschedulable.pop(uid, None)

    # -- changing -----------------------------------------------------------------------------------------------------

    def update(self, pod: PodInfo, events: Iterable[ClusterEvent], now: float) -> None:
        """A waiting pod's new version; ``events`` say what is different about it."""
        entry = self._entries.get(pod.uid)
        if entry is None:
            self.add(pod, now)
            return
        queued = entry.queued
        old, queued.pod = queued.pod, pod
        if entry.place is QueuePlace.UNSCHEDULABLE and any(self._helps(queued, event, old, pod) for event in events):
            self._retry(queued, now)
        elif entry.place is QueuePlace.ACTIVE and old.priority != pod.priority:
            self._put(queued, QueuePlace.ACTIVE)

    def happened(self, event: ClusterEvent, old: Any, new: Any, now: float) -> bool:
        """Try again every waiting pod that the event could help; whether there was one."""
        helped = [queued for queued in self._unschedulable.values() if self._helps(queued, event, old, new)]
        for queued in helped:
            self._retry(queued, now)
        return bool(helped)

    def _helps(self, queued: QueuedPod, event: ClusterEvent, old: Any, new: Any) -> bool:
        if event.resource is Resource.EVERYTHING:
            return True
        plugins = (queued.gated_by,) if queued.gated_by else queued.unschedulable_plugins
        return any(
            registration.event.concerns(event) and _hints(registration, queued.pod, old, new)
            for plugin in plugins
            for registration in self._registrations.get(plugin, ())
        )

    def _retry(self, queued: QueuedPod, now: float) -> None:
        if not queued.gated_by and not queued.pending_plugins and self._backoff_ends(queued) > now:
            self._put(queued, QueuePlace.BACKOFF)
        else:
            self._enqueue(queued, now)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _backoff_ends(self, queued: QueuedPod) -> float:
        failures = queued.unschedulable_count + queued.error_count
        if failures == 0:
            return queued.timestamp
        return queued.timestamp + min(self._initial * 2.0 ** min(failures - 1, 32), self._max)

    def flush(self, now: float) -> None:
        """Make active what has backed off long enough, and try again what has been unschedulable for five minutes."""
        while (entry := self._head(self._backoff, QueuePlace.BACKOFF)) is not None:
            if self._backoff_ends(entry.queued) > now:
                break
            self._enqueue(entry.queued, now)
        if now < self._next_leftovers:
            return
        self._next_leftovers = now + LEFTOVER_EVERY
        leftover = [
            queued
            for queued in self._unschedulable.values()
            if now - queued.timestamp > self._leftover_after and not queued.gated_by
        ]
        for queued in leftover:
            self._retry(queued, now)

    def next_wakeup(self) -> float | None:
        """When ``flush`` has something to do next."""
        entry = self._head(self._backoff, QueuePlace.BACKOFF)
        if entry is not None:
            return min(self._backoff_ends(entry.queued), self._next_leftovers)
        return self._next_leftovers if self._unschedulable else None


def _hints(registration: Registration, pod: PodInfo, old: Any, new: Any) -> bool:
    """What a plugin's hint says; if it fails, the pod is tried, as it may have become schedulable."""
    try:
        return bool(registration.hint(pod, old, new))
    except Exception:
        log.exception("a plugin's hint failed on pod %s/%s; it is tried", *pod.key)
        return True
