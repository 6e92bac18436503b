"""Which NUMA nodes were chosen for each container, for those who give it something. Pure.

Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

from collections.abc import Collection

from tiphys.kubelet.topology.hints import Nodes


class Affinities:
    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, Nodes | None]] = {}

    def get(self, uid: str, container: str) -> Nodes | None:
        """None if it does not matter."""
        return self._nodes.get(uid, {}).get(container)

    def set(self, uid: str, container: str, nodes: Nodes | None) -> None:
        self._nodes.setdefault(uid, {})[container] = nodes

    def keep_only(self, active: Collection[str]) -> None:
        for uid in [uid for uid in self._nodes if uid not in active]:
            del self._nodes[uid]
