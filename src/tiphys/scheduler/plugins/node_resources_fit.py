"""NodeResourcesFit: what a pod asks for must be free on its node; and how full the node gets is its score.

The score is by strategy: LeastAllocated (the default) spreads, MostAllocated packs. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import MAX_SCORE, PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.resources import CPU, EPHEMERAL, MEMORY, PODS
from tiphys.scheduler.framework.status import Code, Status
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

NATIVE = (CPU, MEMORY, EPHEMERAL)


@dataclass(frozen=True, slots=True)
class FitArgs:
    ignored_resources: frozenset[str] = frozenset()
    """Extended resources that are not looked at."""
    ignored_groups: frozenset[str] = frozenset()
    strategy: Literal["LeastAllocated", "MostAllocated"] = "LeastAllocated"
    weights: Mapping[str, int] = field(default_factory=lambda: {CPU: 1, MEMORY: 1})


class NodeResourcesFit:
    name = "NodeResourcesFit"

    def __init__(self, handle: Handle, args: FitArgs | None = None) -> None:
        self._table = handle.cache.table
        self._args = args or FitArgs()

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        state.data[self.name] = [(name, value) for name, value in pod.requests.items() if value and self._seen(name)]
        return None, None

    def _seen(self, resource: str) -> bool:
        if "/" not in resource:
            return True
        return resource not in self._args.ignored_resources and (
            resource.partition("/")[0] not in self._args.ignored_groups
        )

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        reasons, code = [], Code.UNSCHEDULABLE
        if len(node.pods) + 1 > node.allowed_pods:
            reasons.append("Too many pods")
        for name, value in state.data[self.name]:
            allocatable = node.allocatable.get(name, 0)
            if value > allocatable - node.requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
                if value > allocatable:
                    code = Code.UNRESOLVABLE
        return Status(code, tuple(reasons)) if reasons else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        table, view = self._table, self._table.view
        mask: np.ndarray[Any, Any] = view(table.pods) < view(table.allocatable[PODS])
        for name, value in state.data[self.name]:
            if name not in table.requested:
                mask[:] = False
                continue
            mask &= view(table.allocatable[name]) - view(table.requested[name]) >= value
        return mask

    # -- scoring ------------------------------------------------------------------------------------------------------

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        total = weights = 0
        for name, weight in self._weights(pod):
            allocatable = node.allocatable.get(name, 0)
            if not allocatable:
                continue
            total += weight * self._part(self._after(pod, node, name), allocatable)
            weights += weight
        return total // weights if weights else 0

    def _part(self, requested: int, allocatable: int) -> int:
        if self._args.strategy == "MostAllocated":
            return min(requested, allocatable) * MAX_SCORE // allocatable
        return (allocatable - requested) * MAX_SCORE // allocatable if requested <= allocatable else 0

    def _weights(self, pod: PodInfo) -> list[tuple[str, int]]:
        """The resources that count: extended ones only for pods that ask for them."""
        return [(n, w) for n, w in self._args.weights.items() if n in NATIVE or pod.requests.get(n)]

    @staticmethod
    def _after(pod: PodInfo, node: NodeInfo, name: str) -> int:
        if name == CPU:
            return node.scored_cpu + pod.scored_cpu
        if name == MEMORY:
            return node.scored_memory + pod.scored_memory
        return node.requested.get(name, 0) + pod.requests.get(name, 0)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        """They are on the scale already."""

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """A score from 0 to 100 for each of ``rows``, by the configured strategy: least or most allocated."""
        import numpy as np

        table, view = self._table, self._table.view
        total = np.zeros(len(rows), dtype=np.int64)
        weights = np.zeros(len(rows), dtype=np.int64)
        for name, weight in self._weights(pod):
            if name not in table.allocatable:
                continue
            allocatable = view(table.allocatable[name])[rows]
            if name == CPU:
                requested = view(table.scored_cpu)[rows] + pod.scored_cpu
            elif name == MEMORY:
                requested = view(table.scored_memory)[rows] + pod.scored_memory
            else:
                requested = view(table.requested[name])[rows] + pod.requests.get(name, 0)
            divisor = np.maximum(allocatable, 1)
            if self._args.strategy == "MostAllocated":
                part = np.minimum(requested, allocatable) * MAX_SCORE // divisor
            else:
                part = np.maximum(allocatable - requested, 0) * MAX_SCORE // divisor
            offered = allocatable > 0
            total += part * weight * offered
            weights += weight * offered
        scores: np.ndarray[Any, Any] = total // np.maximum(weights, 1)
        return scores

    # -- what helps ---------------------------------------------------------------------------------------------------

    def events(self) -> Iterable[Registration]:
        """The events after which a pod that this plugin refused may fit."""

        def pod_shrank(pod: PodInfo, old: PodInfo, new: PodInfo | None) -> bool:
            """A pod that is gone, or asks for less, leaves room if it is one that this pod asks for too."""
            after = new.requests if new is not None else {}
            freed = {name for name, value in old.requests.items() if value > after.get(name, 0)}
            return new is None or bool(freed & pod.requests.keys()) or pod.uid == new.uid

        def node_changed(pod: PodInfo, old: NodeInfo | None, new: NodeInfo) -> bool:
            if new.allowed_pods <= len(new.pods):
                return False
            return all(
                value <= new.allocatable.get(name, 0) for name, value in pod.requests.items() if self._seen(name)
            )

        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE | Action.SCALE_DOWN), pod_shrank)
        yield Registration(ClusterEvent(Resource.POD, Action.SCALE_DOWN), pod_shrank)
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_ALLOCATABLE), node_changed)
