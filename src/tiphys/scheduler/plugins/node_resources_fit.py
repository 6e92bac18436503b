"""NodeResourcesFit: what a pod asks for must be free on its node; and how full the node gets is its score.

The score is by strategy: LeastAllocated (the default) spreads, MostAllocated packs. An extended resource that a node
does not offer is none of this plugin's business if a DeviceClass stands behind it (``dynamic_resources``). Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tiphys.api.meta.objects import name_of
from tiphys.api.object import Object
from tiphys.api.pods.resources import DEVICE_CLASS_PREFIX, may_be_of_a_class
from tiphys.scheduler.devices.backed import BackedResources
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
        self._backed = BackedResources(handle)

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        state.data[self.name] = [
            (name, value, self._is_backed(name)) for name, value in pod.requests.items() if value and self._seen(name)
        ]
        return None, None

    def _is_backed(self, resource: str) -> bool:
        return may_be_of_a_class(resource) and self._backed.class_of(resource) is not None

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
        for name, value, backed in state.data[self.name]:
            allocatable = node.allocatable.get(name, 0)
            if backed and not allocatable:
                continue
            if value > allocatable - node.requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
                if value > allocatable:
                    code = Code.UNRESOLVABLE
        return Status(code, tuple(reasons)) if reasons else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        table, view = self._table, self._table.view
        mask: np.ndarray[Any, Any] = view(table.pods) < view(table.allocatable[PODS])
        for name, value, backed in state.data[self.name]:
            if name not in table.requested:
                if not backed:
                    mask[:] = False
                continue
            fits = view(table.allocatable[name]) - view(table.requested[name]) >= value
            mask &= fits | (view(table.allocatable[name]) == 0) if backed else fits
        return mask

    # -- scoring ------------------------------------------------------------------------------------------------------

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        total = weights = 0
        for name, weight in self._weights(pod):
            allocatable, used = self._offer(state, node, name)
            if not allocatable:
                continue
            total += weight * self._part(used + _counted(pod, name), allocatable)
            weights += weight
        return total // weights if weights else 0

    def _part(self, requested: int, allocatable: int) -> int:
        if self._args.strategy == "MostAllocated":
            return min(requested, allocatable) * MAX_SCORE // allocatable
        return (allocatable - requested) * MAX_SCORE // allocatable if requested <= allocatable else 0

    def _weights(self, pod: PodInfo) -> list[tuple[str, int]]:
        """The resources that count: extended ones only for pods that ask for them."""
        return [(n, w) for n, w in self._args.weights.items() if n in NATIVE or pod.requests.get(n)]

    def _offer(self, state: CycleState, node: NodeInfo, name: str) -> tuple[int, int]:
        """How much of a resource a node has, and how much is used; devices of a class if it offers none itself."""
        allocatable, used = node.allocatable.get(name, 0), node.requested.get(name, 0)
        if name not in NATIVE and not allocatable:
            return self._backed.amounts(state, node, name)
        return allocatable, {CPU: node.scored_cpu, MEMORY: node.scored_memory}.get(name, used)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        """They are on the scale already."""

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """A score from 0 to 100 for each of ``rows``, by the configured strategy: least or most allocated."""
        import numpy as np

        table, view = self._table, self._table.view
        total = np.zeros(len(rows), dtype=np.int64)
        weights = np.zeros(len(rows), dtype=np.int64)
        for name, weight in self._weights(pod):
            if name not in NATIVE and self._is_backed(name):
                offers = [self._offer(state, table.node(int(row)), name) for row in rows]
                allocatable, used = np.array(offers, dtype=np.int64).reshape(-1, 2).T
            elif name not in table.allocatable:
                continue
            else:
                allocatable = view(table.allocatable[name])[rows]
                scored = {CPU: table.scored_cpu, MEMORY: table.scored_memory}
                used = view(scored.get(name, table.requested[name]))[rows]
            requested = used + _counted(pod, name)
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
                value <= (offered := new.allocatable.get(name, 0)) or (not offered and self._is_backed(name))
                for name, value in pod.requests.items()
                if self._seen(name)
            )

        def class_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
            """A class stands behind another resource than before, which the pod asks for."""
            named = new["spec"].get("extendedResourceName")
            if old is None:
                return bool({named, DEVICE_CLASS_PREFIX + name_of(new)} & pod.requests.keys())
            return named != old["spec"].get("extendedResourceName") and named in pod.requests

        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE | Action.SCALE_DOWN), pod_shrank)
        yield Registration(ClusterEvent(Resource.POD, Action.SCALE_DOWN), pod_shrank)
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_ALLOCATABLE), node_changed)
        yield Registration(ClusterEvent(Resource.DEVICE_CLASS, Action.ADD | Action.UPDATE), class_changed)


def _counted(pod: PodInfo, name: str) -> int:
    """What the pod adds, as scores count it."""
    return {CPU: pod.scored_cpu, MEMORY: pod.scored_memory}.get(name, pod.requests.get(name, 0))
