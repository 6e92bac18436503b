"""``Simulation``: where pods would go if nodes were otherwise, decided by the scheduler's own framework on a copy.

Nothing is written, and nobody else's state is changed: the cache is a copy, the other kinds are only read. Preemption
is left out: what has no room for a pod has none, whoever might be made to leave.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, cast

from tiphys.api.object import Object
from tiphys.client.informer import Store
from tiphys.scheduler.config import ProfileConfig
from tiphys.scheduler.cycle import CycleError, choose, find_feasible
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.runtime import Diagnosis
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.messages import no_fit
from tiphys.scheduler.plugins.registry import make_framework


class _Nobody:
    """What a plugin that only decides has no use for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"a simulation changes nothing, and cannot {name}")


class Simulation:
    """Pods that have a node count there; those without have to be placed."""

    def __init__(
        self,
        nodes: Iterable[Object],
        pods: Iterable[Object],
        *,
        stores: Mapping[str, Store] | None = None,
        seed: int = 0,
    ) -> None:
        """``stores`` by plural (``persistentvolumeclaims``, …), as far as they are followed; the default profile."""
        nobody = cast(Any, _Nobody())
        self._rng = random.Random(seed)
        self._handle = Handle(nobody, nobody, self._rng, nobody, nobody, stores=dict(stores or {}))
        self._framework = make_framework(ProfileConfig(), self._handle)
        for node in nodes:
            self._handle.cache.add_node(node)
        for pod in pods:
            if pod["spec"].get("nodeName"):
                self._handle.cache.set_pod(PodInfo(pod))

    def add_node(self, node: Object) -> None:
        self._handle.cache.add_node(node)

    def remove_node(self, name: str) -> None:
        """With the pods there, which the cache would keep for a node of this name."""
        cache = self._handle.cache
        if (node := cache.table.get(name)) is not None:
            for pod in list(node.pods.values()):
                cache.remove_pod(pod.uid)
        cache.remove_node(name)

    def place(self, pod: Object) -> str:
        """The node that the scheduler would choose, where the pod counts from now on; empty if it fits nowhere."""
        info, state = PodInfo(pod), CycleState()
        if not len(self._handle.cache.table) or self._framework.pre_enqueue(info) is not None:
            return ""
        try:
            feasible = find_feasible(self._framework, state, info, Diagnosis())
            if not len(feasible):
                return ""
            node = choose(self._framework, state, info, feasible, self._rng)
        except CycleError:
            return ""
        self._handle.cache.assume(info.assumed_on(node))
        return node

    def place_on(self, pod: Object, node: str) -> bool:
        """Whether a pod fits on this one node; if so it counts there from now on."""
        info, state = PodInfo(pod), CycleState()
        table = self._handle.cache.table
        try:
            names, _, status = self._framework.pre_filter(state, info)
            row = table.get(node)
            if status is not None or row is None or (names is not None and node not in names):
                return False
            if self._framework.filter(state, info, row) is not None:
                return False
        except CycleError:
            return False
        self._handle.cache.assume(info.assumed_on(node))
        return True

    def why(self, pod: Object) -> str:
        """The scheduler's sentence about a pod that fits nowhere."""
        diagnosis, state = Diagnosis(), CycleState()
        try:
            find_feasible(self._framework, state, PodInfo(pod), diagnosis)
        except CycleError as error:
            return str(error)
        count = len(self._handle.cache.table)
        return no_fit(count, diagnosis.statuses, diagnosis.rest, pre_filter=diagnosis.pre_filter_message)
