"""The taint eviction controller: removes pods from nodes whose NoExecute taints they do not, or no longer, tolerate.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.api.scheduling.taints import NO_EXECUTE
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NODES, PODS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    key_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.nodes.disrupted import disruption_patch
from tiphys.controllers.nodes.taints import eviction_delay, taints_of

NAME = "taint-eviction-controller"
REASON = "DeletionByTaintManager"
MESSAGE = "Taint manager: deleting due to NoExecute taint"


@dataclass(frozen=True, slots=True)
class Eviction:
    """The pod of this uid is to be evicted ``at`` a time, in monotonic seconds."""

    uid: str
    at: float


def no_execute(node: Object | None) -> list[Object]:
    return [taint for taint in taints_of(node) if taint["effect"] == NO_EXECUTE] if node is not None else []


def next_eviction(pod: Object, node: Object | None, current: Eviction | None, now: float) -> Eviction | None:
    """When a pod is to be evicted. A wait that has begun continues as it is, unless a taint is not tolerated at all."""
    taints = no_execute(node)
    if not taints:
        return None
    delay = eviction_delay(taints, pod["spec"].get("tolerations") or [])
    if delay is None:
        return None
    if delay > 0 and current is not None and current.uid == uid_of(pod):
        return current
    return Eviction(uid_of(pod), now + delay)


class TaintEvictionController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named(NAME)
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        podkit.index_by_node(self._pods)
        self._evictions: dict[str, Eviction] = {}
        self._controller = context.controller("taint_eviction", self.reconcile, workers=8)
        self._controller.handles(
            self._pods, Callbacks(added=self._pod_added, updated=self._pod_updated, deleted=self._enqueue)
        )
        self._controller.handles(
            self._nodes, Callbacks(added=self._node_added, updated=self._node_updated, deleted=lambda node: None)
        )

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue(self, pod: Object) -> None:
        self._controller.queue.add(key_of(pod))

    def _pod_added(self, pod: Object) -> None:
        if podkit.node_of(pod) and no_execute(self._nodes.store.get("", podkit.node_of(pod))):
            self._enqueue(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        moved = podkit.node_of(old) != podkit.node_of(new)
        if moved or old["spec"].get("tolerations") != new["spec"].get("tolerations"):
            self._enqueue(new)

    def _node_added(self, node: Object) -> None:
        if no_execute(node):
            self._enqueue_pods_of(node)

    def _node_updated(self, old: Object, new: Object) -> None:
        if no_execute(old) != no_execute(new):
            self._enqueue_pods_of(new)

    def _enqueue_pods_of(self, node: Object) -> None:
        for pod in self._pods.store.by_index(podkit.NODE_INDEX, name_of(node)):
            self._enqueue(pod)

    async def reconcile(self, key: str) -> Result | None:
        """Evict a pod when its time on a tainted node is over; returns the wait in seconds until then."""
        pod = self._pods.store.get(*split_key(key))
        current = self._evictions.get(key)
        if pod is None:
            self._cancel(key)
            return None
        now = self._clock.monotonic()
        node = self._nodes.store.get("", podkit.node_of(pod)) if podkit.node_of(pod) else None
        wanted = next_eviction(pod, node, current, now)
        if wanted is None:
            self._cancel(key)
            return None
        self._evictions[key] = wanted
        if wanted.at > now:
            return Result(after=wanted.at - now)
        await self._evict(key, pod)
        self._evictions.pop(key, None)
        return None

    def _cancel(self, key: str) -> None:
        if self._evictions.pop(key, None) is not None:
            self._report(key, f"Cancelling deletion of Pod {key}")

    async def _evict(self, key: str, pod: Object) -> None:
        self._report(key, f"Marking for deletion Pod {key}")
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            live = await self._client.get(PODS, name, namespace)
            if uid_of(live) != uid_of(pod):
                return
            patch = disruption_patch(live, REASON, MESSAGE, self._clock.now())
            if patch is not None:
                await self._client.patch(PODS, name, patch, namespace, type=STRATEGIC_MERGE, subresource="status")
            await self._client.delete(PODS, name, namespace)
        except errors.NotFound:
            return

    def _report(self, key: str, message: str) -> None:
        namespace, name = split_key(key)
        about = {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace}
        self._recorder.event(about, "Normal", "TaintManagerEviction", message)
