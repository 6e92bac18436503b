"""TaintToleration: a pod goes only where it tolerates every taint that says NoSchedule or NoExecute, and rather where
it tolerates those that say PreferNoSchedule.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tiphys.api.scheduling.taints import HARD, PREFER_NO_SCHEDULE, SOFT, Toleration, untolerated
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unresolvable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.scores import normalize, normalize_all

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) had untolerated taint(s)"


class TaintToleration:
    name = "TaintToleration"

    def __init__(self, handle: Handle) -> None:
        self._table = handle.cache.table

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if node.taints and untolerated(node.taints, pod.tolerations, HARD):
            return unresolvable(REASON)
        return None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        counts = self._by_row(pod.tolerations, HARD)
        return None if counts is None else counts == 0

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return len(untolerated(node.taints, _soft(pod), SOFT)) if node.taints else 0

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        normalize(scores, reverse=True)

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        counts = self._by_row(_soft(pod), SOFT)
        return None if counts is None else normalize_all(counts[rows], reverse=True)

    def _by_row(self, tolerations: Iterable[Toleration], effects: frozenset[str]) -> np.ndarray[Any, Any] | None:
        """Each row's number of untolerated taints; None if no node has any. Asked once per set of taints."""
        tolerations = tuple(tolerations)
        counts = [len(untolerated(taints, tolerations, effects)) for taints in self._table.taint_sets()]
        if not any(counts):
            return None
        import numpy as np

        by_row: np.ndarray[Any, Any] = np.array(counts, dtype=np.int64)[self._table.view(self._table.taint_class)]
        return by_row

    def events(self) -> Iterable[Registration]:
        def node_changed(pod: PodInfo, old: NodeInfo | None, new: NodeInfo) -> bool:
            return not untolerated(new.taints, pod.tolerations, HARD)

        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_TAINT), node_changed)
        yield Registration(ClusterEvent(Resource.POD, Action.TOLERATION))


def _soft(pod: PodInfo) -> tuple[Toleration, ...]:
    return tuple(t for t in pod.tolerations if t.effect in ("", PREFER_NO_SCHEDULE))
