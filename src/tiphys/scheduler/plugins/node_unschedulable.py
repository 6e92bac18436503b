"""NodeUnschedulable: cordoned nodes take only pods that tolerate it.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/#manual-node-administration
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.api.scheduling.taints import NO_SCHEDULE, UNSCHEDULABLE, Taint, tolerates
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unresolvable
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) were unschedulable"
_TAINT = Taint(UNSCHEDULABLE, "", NO_SCHEDULE)


class NodeUnschedulable:
    name = "NodeUnschedulable"

    def __init__(self, handle: Handle) -> None:
        self._table = handle.cache.table

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not node.unschedulable or self._tolerated(pod):
            return None
        return unresolvable(REASON)

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        return None if self._tolerated(pod) else self._table.view(self._table.unschedulable) == 0

    def events(self) -> Iterable[Registration]:
        def hint(pod: PodInfo, old: NodeInfo | None, new: NodeInfo) -> bool:
            return not new.unschedulable or self._tolerated(pod)

        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_TAINT), hint)

    @staticmethod
    def _tolerated(pod: PodInfo) -> bool:
        return any(tolerates(toleration, _TAINT) for toleration in pod.tolerations)
