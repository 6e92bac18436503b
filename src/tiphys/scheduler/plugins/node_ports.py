"""NodePorts: two pods cannot have the same port of one node. ``0.0.0.0`` collides with every address.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.api.pods.hostports import collides
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unschedulable
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) didn't have free ports for the requested pod ports"


class NodePorts:
    name = "NodePorts"

    def __init__(self, handle: Handle) -> None:
        self._table = handle.cache.table

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        return None, None if pod.host_ports else SKIP

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        return unschedulable(REASON) if collides(pod.host_ports, node.ports) else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        import numpy as np

        mask = np.ones(len(self._table.rows), dtype=bool)
        for node in self._table:
            if node.ports and collides(pod.host_ports, node.ports):
                mask[node.row] = False
        return mask

    def events(self) -> Iterable[Registration]:
        def pod_gone(pod: PodInfo, old: PodInfo, new: None) -> bool:
            return collides(pod.host_ports, dict.fromkeys(old.host_ports, 1))

        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE), pod_gone)
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD))
