"""Which pods have been promised which node, after pods were evicted for them there.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.scheduler.framework.podinfo import PodInfo


class Nominator:
    def __init__(self) -> None:
        self._node_of: dict[str, str] = {}
        self._on_node: dict[str, dict[str, PodInfo]] = {}

    def add(self, pod: PodInfo, node: str) -> None:
        """Promise the node to the pod, in place of another one."""
        self.remove(pod.uid)
        if node:
            self._node_of[pod.uid] = node
            self._on_node.setdefault(node, {})[pod.uid] = pod

    def update(self, pod: PodInfo) -> None:
        """Take a new version of a pod: its own nomination counts, but none does not undo a promise of ours."""
        node = pod.nominated_node or self._node_of.get(pod.uid, "")
        self.add(pod, node)

    def remove(self, uid: str) -> None:
        node = self._node_of.pop(uid, None)
        if node is not None:
            pods = self._on_node[node]
            pods.pop(uid, None)
            if not pods:
                del self._on_node[node]

    def node_of(self, uid: str) -> str:
        return self._node_of.get(uid, "")

    def on_node(self, node: str) -> Iterable[PodInfo]:
        return self._on_node.get(node, {}).values()

    def nodes(self) -> Iterable[str]:
        """The nodes with promises."""
        return self._on_node.keys()
