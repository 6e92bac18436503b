"""``Cache``: the nodes and what runs on them, with the pods that this scheduler has placed but not bound yet (assumed).

The scheduling cycle is synchronous in one event loop, so it works on the cache itself: there is no snapshot to take,
and each change costs only the row that it touches. Pods may arrive before their node does; they wait for it here.
"""

from __future__ import annotations

import logging
from collections import Counter

from tiphys.api.object import Object
from tiphys.scheduler.framework.events import Action
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.podindex import PodIndex
from tiphys.scheduler.table import NodeTable

log = logging.getLogger(__name__)


class Cache:
    def __init__(self) -> None:
        self.table = NodeTable()
        self.index = PodIndex(self.table)
        self.image_nodes: dict[str, int] = {}
        """On how many nodes each image is."""
        self.priorities: Counter[int] = Counter()
        """How many pods on nodes have which priority."""
        self.claims: Counter[tuple[str, str]] = Counter()
        """How many pods on nodes mount which volume claim, by namespace and name."""
        self._pods: dict[str, PodInfo] = {}
        self._assumed: set[str] = set()
        self._waiting: dict[str, dict[str, PodInfo]] = {}
        """Pods on nodes that are not known, by node."""

    # -- nodes --------------------------------------------------------------------------------------------------------

    def add_node(self, obj: Object) -> NodeInfo:
        existing = self.table.get(obj["metadata"]["name"])
        if existing is not None:
            self.update_node(obj)
            return existing
        node = NodeInfo(obj)
        self.table.add(node)
        self._count_images(node, 1)
        for pod in self._waiting.pop(node.name, {}).values():
            self._put(pod, node)
        return node

    def update_node(self, obj: Object) -> Action:
        """Take the node's new version; returns what has changed that could let a pod in."""
        node = self.table.get(obj["metadata"]["name"])
        if node is None:
            self.add_node(obj)
            return Action.ADD
        old = node.obj
        changes = node_changes(old, obj)
        images = (old.get("status") or {}).get("images") != (obj.get("status") or {}).get("images")
        if images:
            self._count_images(node, -1)
        if changes or images:
            node.set_node(obj)
            self.table.node_changed(node)
        else:
            node.obj = obj
        if images:
            self._count_images(node, 1)
        return changes

    def remove_node(self, name: str) -> None:
        node = self.table.get(name)
        if node is None:
            return
        for pod in list(node.pods.values()):
            self._take(pod, node)
            self._waiting.setdefault(name, {})[pod.uid] = pod
        self._count_images(node, -1)
        self.table.remove(node)

    def _count_images(self, node: NodeInfo, sign: int) -> None:
        for name in node.images:
            left = self.image_nodes.get(name, 0) + sign
            if left:
                self.image_nodes[name] = left
            else:
                del self.image_nodes[name]

    # -- pods ---------------------------------------------------------------------------------------------------------

    def get_pod(self, uid: str) -> PodInfo | None:
        return self._pods.get(uid)

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def assume(self, pod: PodInfo) -> None:
        """Count the pod on its node before the API server has confirmed it."""
        if pod.uid in self._pods:
            raise ValueError(f"pod {pod.namespace}/{pod.name} is on a node already")
        self._assumed.add(pod.uid)
        self._place(pod)

    def forget(self, pod: PodInfo) -> None:
        """Take back an assumption."""
        if pod.uid in self._assumed:
            self._assumed.discard(pod.uid)
            self._displace(pod.uid)

    def set_pod(self, pod: PodInfo) -> PodInfo | None:
        """Take a pod that has a node, new or changed; returns what was known of it, assumed or not."""
        old = self._pods.get(pod.uid)
        self._assumed.discard(pod.uid)
        if old is not None:
            if old.node_name != pod.node_name:
                log.warning("pod %s/%s is on %s, not on %s", *pod.key, pod.node_name, old.node_name)
            elif _counts_alike(old, pod):
                self._replace(old, pod)
                return old
            self._displace(pod.uid)
        self._place(pod)
        return old

    def remove_pod(self, uid: str) -> PodInfo | None:
        self._assumed.discard(uid)
        return self._displace(uid)

    def _place(self, pod: PodInfo) -> None:
        self._pods[pod.uid] = pod
        node = self.table.get(pod.node_name)
        if node is None:
            self._waiting.setdefault(pod.node_name, {})[pod.uid] = pod
        else:
            self._put(pod, node)

    def _displace(self, uid: str) -> PodInfo | None:
        pod = self._pods.pop(uid, None)
        if pod is None:
            return None
        node = self.table.get(pod.node_name)
        if node is not None and uid in node.pods:
            self._take(pod, node)
        else:
            self._waiting.get(pod.node_name, {}).pop(uid, None)
            if not self._waiting.get(pod.node_name, True):
                del self._waiting[pod.node_name]
        return pod

    def _replace(self, old: PodInfo, new: PodInfo) -> None:
        """Exchange the object only: nothing that is counted differs, which is how most updates are."""
        self._pods[new.uid] = new
        node = self.table.get(new.node_name)
        if node is not None and new.uid in node.pods:
            node.pods[new.uid] = new
            self.index.exchange(new, node)
        else:
            self._waiting.setdefault(new.node_name, {})[new.uid] = new

    def _put(self, pod: PodInfo, node: NodeInfo) -> None:
        self.priorities[pod.priority] += 1
        for claim, _ in pod.claims:
            self.claims[pod.namespace, claim] += 1
        node.add_pod(pod)
        self.table.pods_changed(node)
        self.index.add(pod, node)

    def _take(self, pod: PodInfo, node: NodeInfo) -> None:
        self.priorities[pod.priority] -= 1
        if not self.priorities[pod.priority]:
            del self.priorities[pod.priority]
        for claim, _ in pod.claims:
            self.claims[pod.namespace, claim] -= 1
            if not self.claims[pod.namespace, claim]:
                del self.claims[pod.namespace, claim]
        node.remove_pod(pod)
        self.table.pods_changed(node)
        self.index.remove(pod, node)


def _counts_alike(old: PodInfo, new: PodInfo) -> bool:
    return (
        old.requests == new.requests
        and old.labels == new.labels
        and old.priority == new.priority
        and old.deleting == new.deleting
        and old.host_ports == new.host_ports
    )


def node_changes(old: Object, new: Object) -> Action:
    """What differs between two versions of a node, as far as scheduling goes."""
    changes = Action(0)
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    old_status, new_status = old.get("status") or {}, new.get("status") or {}
    if old_status.get("allocatable") != new_status.get("allocatable"):
        changes |= Action.UPDATE_ALLOCATABLE
    if old["metadata"].get("labels") != new["metadata"].get("labels"):
        changes |= Action.UPDATE_LABEL
    same_taints = old_spec.get("taints") == new_spec.get("taints")
    if not same_taints or bool(old_spec.get("unschedulable")) != bool(new_spec.get("unschedulable")):
        changes |= Action.UPDATE_TAINT
    if _conditions(old_status) != _conditions(new_status):
        changes |= Action.UPDATE_CONDITION
    if old["metadata"].get("annotations") != new["metadata"].get("annotations"):
        changes |= Action.UPDATE_ANNOTATION
    return changes


def _conditions(status: Object) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
