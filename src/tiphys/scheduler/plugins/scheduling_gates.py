"""SchedulingGates: a pod with ``spec.schedulingGates`` is not queued until they are removed. Source: KEP-3521."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unresolvable


class SchedulingGates:
    name = "SchedulingGates"

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        gates = [gate["name"] for gate in pod.spec.get("schedulingGates") or ()]
        if not gates:
            return None
        return unresolvable(f"waiting for scheduling gates: [{' '.join(gates)}]")

    def events(self) -> Iterable[Registration]:
        yield Registration(ClusterEvent(Resource.POD, Action.GATES_GONE))
