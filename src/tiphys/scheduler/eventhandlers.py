"""From informers into the cache and the queue: what each change of a pod, node or namespace means for scheduling.

Source: KEP-4247
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tiphys.api.object import Object
from tiphys.scheduler.cache import Cache
from tiphys.scheduler.framework.events import Action, ClusterEvent, Resource
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.queue import SchedulingQueue


class NodeHandler:
    def __init__(self, cache: Cache, happened: Callable[[ClusterEvent, Any, Any], None]) -> None:
        self._cache = cache
        self._happened = happened

    def added(self, obj: Object, *, initial: bool) -> None:
        node = self._cache.add_node(obj)
        self._happened(ClusterEvent(Resource.NODE, Action.ADD), None, node)

    def updated(self, old: Object, new: Object) -> None:
        changes = self._cache.update_node(new)
        if changes:
            node = self._cache.table.get(new["metadata"]["name"])
            self._happened(ClusterEvent(Resource.NODE, changes), None, node)

    def deleted(self, obj: Object) -> None:
        self._cache.remove_node(obj["metadata"]["name"])
        self._happened(ClusterEvent(Resource.NODE, Action.DELETE), None, NodeInfo(obj))


class ObjectHandler:
    """For what is neither a pod nor a node: plugins read the informer's copy, and hints judge each change."""

    def __init__(self, resource: Resource, happened: Callable[[ClusterEvent, Any, Any], None]) -> None:
        self._resource = resource
        self._happened = happened

    def added(self, obj: Object, *, initial: bool) -> None:
        self._happened(ClusterEvent(self._resource, Action.ADD), None, obj)

    def updated(self, old: Object, new: Object) -> None:
        self._happened(ClusterEvent(self._resource, Action.UPDATE_OTHER), old, new)

    def deleted(self, obj: Object) -> None:
        self._happened(ClusterEvent(self._resource, Action.DELETE), obj, None)


class NamespaceHandler:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def added(self, obj: Object, *, initial: bool) -> None:
        self._cache.index.set_namespace(obj["metadata"]["name"], obj["metadata"].get("labels") or {})

    def updated(self, old: Object, new: Object) -> None:
        self.added(new, initial=False)

    def deleted(self, obj: Object) -> None:
        self._cache.index.set_namespace(obj["metadata"]["name"], None)


class Intake(Protocol):
    """What a scheduler offers for pods that come, change and leave."""

    cache: Cache
    queue: SchedulingQueue

    def responsible_for(self, pod: PodInfo) -> bool: ...

    def enqueue(self, pod: PodInfo) -> None: ...

    def requeue(self, pod: PodInfo, events: list[ClusterEvent]) -> None: ...

    def dequeue(self, pod: PodInfo) -> None: ...

    def pod_happened(self, action: Action, old: PodInfo | None, new: PodInfo | None) -> None: ...


class PodHandler:
    """A pod either waits for a node (in the queue, if its scheduler is this one) or has one (in the cache)."""

    def __init__(self, scheduler: Intake) -> None:
        self._scheduler = scheduler
        self._cache = scheduler.cache

    def added(self, obj: Object, *, initial: bool) -> None:
        self._take(PodInfo(obj))

    def updated(self, old: Object, new: Object) -> None:
        if old["metadata"].get("uid") != new["metadata"].get("uid"):
            self.deleted(old)
            self.added(new, initial=False)
            return
        self._take(PodInfo(new))

    def deleted(self, obj: Object) -> None:
        pod = PodInfo(obj)
        known = self._cache.remove_pod(pod.uid)
        self._scheduler.dequeue(pod)
        if known is not None:
            self._scheduler.pod_happened(Action.DELETE, known, None)

    def _take(self, pod: PodInfo) -> None:
        if pod.is_terminal:
            self.deleted(pod.obj)
        elif pod.node_name:
            self._assigned(pod)
        elif self._scheduler.responsible_for(pod):
            self._waiting(pod)

    def _assigned(self, pod: PodInfo) -> None:
        confirmed = self._cache.is_assumed(pod.uid)
        known = self._cache.get_pod(pod.uid)
        if known is not None:
            pod = known.updated(pod.obj)
        self._cache.set_pod(pod)
        if known is None or confirmed:
            self._scheduler.dequeue(pod)
            self._scheduler.pod_happened(Action.ADD, None, pod)
            return
        changes = Action(0)
        if known.labels != pod.labels:
            changes |= Action.UPDATE_LABEL
        if any(value > pod.requests.get(name, 0) for name, value in known.requests.items()):
            changes |= Action.SCALE_DOWN
        if changes:
            self._scheduler.pod_happened(changes, known, pod)

    def _waiting(self, pod: PodInfo) -> None:
        queue = self._scheduler.queue
        if pod.uid not in queue and not self._cache.is_assumed(pod.uid):
            self._scheduler.enqueue(pod)
            return
        old = queue.get(pod.uid)
        if old is not None:
            self._scheduler.requeue(old.updated(pod.obj), pod_changes(old, pod))


_CLAIMS = ("resourceClaimStatuses", "extendedResourceClaimStatus")


def pod_changes(old: PodInfo, new: PodInfo) -> list[ClusterEvent]:
    """What is different about a waiting pod, as far as it could make it schedulable."""
    actions = []
    if old.labels != new.labels:
        actions.append(Action.UPDATE_LABEL)
    if old.spec.get("tolerations") != new.spec.get("tolerations"):
        actions.append(Action.TOLERATION)
    if old.spec.get("schedulingGates") and not new.spec.get("schedulingGates"):
        actions.append(Action.GATES_GONE)
    if any(old.status.get(name) != new.status.get(name) for name in _CLAIMS):
        actions.append(Action.CLAIMS_MADE)
    if any(value > new.requests.get(name, 0) for name, value in old.requests.items()):
        actions.append(Action.SCALE_DOWN)
    return [ClusterEvent(Resource.POD, action) for action in actions]
