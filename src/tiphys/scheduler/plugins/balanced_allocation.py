"""NodeResourcesBalancedAllocation: rather a node whose CPU and memory the pod brings nearer to equal use.

The score is 75 if nothing changes, up to 100 if the pod evens the use out, down to 50 if it skews it.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.devices.backed import BackedResources
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.interface import MAX_SCORE
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.resources import CPU, MEMORY
from tiphys.scheduler.framework.status import SKIP, Status
from tiphys.scheduler.handle import Handle

if TYPE_CHECKING:
    import numpy as np

_HALF = MAX_SCORE // 2


class NodeResourcesBalancedAllocation:
    name = "NodeResourcesBalancedAllocation"

    def __init__(self, handle: Handle, resources: tuple[str, ...] = (CPU, MEMORY)) -> None:
        self._table = handle.cache.table
        self._resources = resources
        self._backed = BackedResources(handle)

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        """A pod that asks for nothing changes no balance: scoring it would send all such pods to one node."""
        return None if any(pod.requests.get(name) for name in self._resources) else SKIP

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        after, before = [], []
        for name in self._resources:
            if name not in (CPU, MEMORY) and not pod.requests.get(name):
                continue
            allocatable, used = self._offer(state, node, name)
            if not allocatable:
                continue
            after.append(min(1.0, (used + pod.requests.get(name, 0)) / allocatable))
            before.append(min(1.0, used / allocatable))
        return _HALF + (_HALF + _balance(after) - _balance(before)) // 2

    def _offer(self, state: CycleState, node: NodeInfo, name: str) -> tuple[int, int]:
        """How much of a resource a node has, and how much is used; devices of a class if it offers none itself."""
        if "/" in name and not node.allocatable.get(name):
            return self._backed.amounts(state, node, name)
        return node.allocatable.get(name, 0), node.requested.get(name, 0)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        """They are on the scale already."""

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """A score from 0 to 100 for each of ``rows``: the nearer the use of the resources to each other, the higher."""
        import numpy as np

        table, view = self._table, self._table.view
        after, before, offered = [], [], []
        for name in self._resources:
            if name not in (CPU, MEMORY) and not pod.requests.get(name):
                continue
            if "/" in name and self._backed.class_of(name) is not None:
                offers = [self._offer(state, table.node(int(row)), name) for row in rows]
                allocatable, used = np.array(offers, dtype=np.int64).reshape(-1, 2).T
            elif name not in table.requested:
                continue
            else:
                allocatable, used = view(table.allocatable[name])[rows], view(table.requested[name])[rows]
            divisor = np.maximum(allocatable, 1)
            after.append(np.minimum(1.0, (used + pod.requests.get(name, 0)) / divisor))
            before.append(np.minimum(1.0, used / divisor))
            offered.append(allocatable > 0)
        scores: np.ndarray[Any, Any] = (
            _HALF + (_HALF + _balance_all(after, offered) - _balance_all(before, offered)) // 2
        )
        return scores


def _balance(fractions: list[float]) -> int:
    if len(fractions) == 2:
        deviation = abs(fractions[0] - fractions[1]) / 2
    elif len(fractions) > 2:
        mean = sum(fractions) / len(fractions)
        deviation = math.sqrt(sum((fraction - mean) ** 2 for fraction in fractions) / len(fractions))
    else:
        deviation = 0.0
    return int((1 - deviation) * MAX_SCORE)


def _balance_all(fractions: list[np.ndarray[Any, Any]], offered: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    import numpy as np

    if len(fractions) == 2:
        deviation = np.abs(fractions[0] - fractions[1]) / 2 * (offered[0] & offered[1])
    else:
        present = np.array(offered)
        values = np.array(fractions) * present
        number = np.maximum(present.sum(axis=0), 1)
        mean = values.sum(axis=0) / number
        deviation = np.sqrt((((values - mean) * present) ** 2).sum(axis=0) / number)
    balance: np.ndarray[Any, Any] = ((1 - deviation) * MAX_SCORE).astype(np.int64)
    return balance
