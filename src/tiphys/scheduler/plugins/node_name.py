"""NodeName: a pod that names its node goes nowhere else.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unresolvable
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) didn't match the requested node name"


class NodeName:
    name = "NodeName"

    def __init__(self, handle: Handle) -> None:
        self._table = handle.cache.table

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        wanted = pod.spec.get("nodeName")
        return unresolvable(REASON) if wanted and wanted != node.name else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        wanted = pod.spec.get("nodeName")
        if not wanted:
            return None
        import numpy as np

        mask = np.zeros(len(self._table.rows), dtype=bool)
        node = self._table.get(wanted)
        if node is not None:
            mask[node.row] = True
        return mask

    def events(self) -> Iterable[Registration]:
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD))
