"""NodeAffinity: ``nodeSelector`` and required node affinity decide, preferred node affinity scores.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#affinity-and-anti-affinity
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tiphys.api.scheduling.nodeselector import NodeTerm, RequiredNodes
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unresolvable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.scores import normalize, normalize_all

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) didn't match Pod's node affinity/selector"
CONFLICT = "pod affinity terms conflict"
ENFORCED = "node(s) didn't match scheduler-enforced node affinity"

KEPT = 64


class NodeAffinity:
    """``added`` is affinity that the configuration adds to every pod."""

    name = "NodeAffinity"

    def __init__(
        self,
        handle: Handle,
        added_required: RequiredNodes | None = None,
        added_preferred: tuple[tuple[NodeTerm, int], ...] = (),
    ) -> None:
        self._table = handle.cache.table
        self._added_required = added_required
        self._added_preferred = added_preferred
        self._masks: OrderedDict[Any, tuple[int, Any]] = OrderedDict()

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        required = pod.required_nodes
        if required is None:
            return None, SKIP if self._added_required is None else None
        names = required.names
        if names is None:
            return None, None
        if not names:
            return None, unresolvable(CONFLICT)
        return PreFilterResult(names), None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if self._added_required is not None and not self._added_required.matches(node.name, node.labels):
            return unresolvable(ENFORCED)
        required = pod.required_nodes
        if required is not None and not required.matches(node.name, node.labels):
            return unresolvable(REASON)
        return None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        mask = None
        for required in (self._added_required, pod.required_nodes):
            if required is not None:
                matching = self._kept(required, lambda node, r=required: r.matches(node.name, node.labels)) != 0
                mask = matching if mask is None else mask & matching
        return mask

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        return None if pod.preferred_nodes or self._added_preferred else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return self._weight(self._added_preferred, node) + self._weight(pod.preferred_nodes, node)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        normalize(scores, reverse=False)

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        preferred = self._added_preferred + pod.preferred_nodes
        weights = self._kept(preferred, lambda node: self._weight(preferred, node))
        return normalize_all(weights[rows], reverse=False)

    @staticmethod
    def _weight(preferred: tuple[tuple[NodeTerm, int], ...], node: NodeInfo) -> int:
        return sum(weight for term, weight in preferred if term.matches(node.name, node.labels))

    def _kept(self, key: Any, ask: Any) -> np.ndarray[Any, Any]:
        """What ``ask`` says of each row, kept for pods that ask the same until a node changes: the pods of one
        Deployment do, and asking a thousand nodes takes a millisecond."""
        version, kept = self._masks.get(key, (-1, None))
        if version != self._table.labels_version:
            import numpy as np

            kept = np.zeros(len(self._table.rows), dtype=np.int64)
            for node in self._table:
                kept[node.row] = ask(node)
            self._masks[key] = (self._table.labels_version, kept)
        self._masks.move_to_end(key)
        if len(self._masks) > KEPT:
            self._masks.popitem(last=False)
        by_row: np.ndarray[Any, Any] = kept
        return by_row

    def events(self) -> Iterable[Registration]:
        def hint(pod: PodInfo, old: NodeInfo | None, new: NodeInfo) -> bool:
            return self.filter(CycleState(), pod, new) is None

        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_LABEL), hint)
