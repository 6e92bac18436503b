"""DefaultPreemption: evicts pods of lower priority if that makes room for one that fits nowhere.

For nodes whose objections could be lifted by removing pods it tries out which pods would have to go: all of lower
priority first, then as many as possible are let stay, the important ones and those under a disruption budget first. The
node with the least damage is taken, its victims are deleted, and the node is promised (nominated) to the pod, which is
tried again when they are gone. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit.objects import timestamp
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.interface import PostFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Code, Status, unresolvable, unschedulable
from tiphys.scheduler.framework.terms import selector_of
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.messages import no_fit

if TYPE_CHECKING:
    from tiphys.scheduler.framework.runtime import Framework

log = logging.getLogger(__name__)


_LOWEST = 2**31
_NO_VICTIMS = unresolvable("No preemption victims found for incoming pod")
_TERMINATING = "not eligible due to a terminating pod on the nominated node."


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and the pods that would have to go, the most important first."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int
    """How many of them are under a disruption budget that has no more to give."""


class DefaultPreemption:
    name = "DefaultPreemption"

    def __init__(self, handle: Handle, min_candidate_percentage: int = 10, min_candidate_absolute: int = 100) -> None:
        self._handle = handle
        self._percentage = min_candidate_percentage
        self._absolute = min_candidate_absolute
        self._evicting: set[str] = set()
        self.framework: Framework | None = None
        """The profile's framework, which simulations call back; set when it is made."""

    def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None
    ) -> tuple[PostFilterResult | None, Status | None]:
        result, status = self._preempt(state, pod, statuses, rest)
        if status is not None and status.reasons:
            status = Status(status.code, (f"preemption: {status.message}",))
        return result, status

    def _preempt(
        self, state: CycleState, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None
    ) -> tuple[PostFilterResult | None, Status | None]:
        if (objection := self._ineligible(pod, statuses, rest)) is not None:
            return None, unschedulable(objection)
        nodes = self._promising(statuses, rest)
        candidates, reasons = self._candidates(state, pod, nodes)
        if not candidates:
            unhelpful = unresolvable("Preemption is not helpful for scheduling")
            message = no_fit(len(self._handle.cache.table), reasons, unhelpful)
            return PostFilterResult(""), unschedulable(message)
        best = least_damage(candidates)
        log.info("pod %s/%s preempts %d pods on %s", *pod.key, len(best.victims), best.node)
        self._evicting.add(pod.uid)
        self._handle.runner.spawn(self._evict(pod, best), f"preemption for {pod.namespace}/{pod.name}")
        return PostFilterResult(best.node), None

    def _ineligible(self, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None) -> str | None:
        if pod.spec.get("preemptionPolicy") == "Never":
            return "not eligible due to preemptionPolicy=Never."
        nominated = self._handle.nominator.node_of(pod.uid) or pod.nominated_node
        if not nominated:
            return None
        if pod.uid in self._evicting:
            return _TERMINATING
        status = statuses.get(nominated, rest)
        if status is not None and status.code is Code.UNRESOLVABLE:
            return None
        node = self._handle.cache.table.get(nominated)
        if node is not None and any(p.priority < pod.priority and _being_preempted(p) for p in node.pods.values()):
            return _TERMINATING
        return None

    def _promising(self, statuses: Mapping[str, Status], rest: Status | None) -> list[NodeInfo]:
        """The nodes where removing pods could help."""
        nodes = []
        for node in self._handle.cache.table:
            status = statuses.get(node.name, rest)
            if status is not None and status.code is Code.UNSCHEDULABLE:
                nodes.append(node)
        return nodes

    # -- trying out ---------------------------------------------------------------------------------------------------

    def _candidates(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> tuple[list[Candidate], dict[str, Status]]:
        """Enough of the nodes where it would work, from a random one on, and why it would not on the others."""
        if not any(priority < pod.priority for priority in self._handle.cache.priorities):
            return [], dict.fromkeys((node.name for node in nodes), _NO_VICTIMS)
        wanted = min(len(nodes), max(len(nodes) * self._percentage // 100, self._absolute))
        harmless: list[Candidate] = []
        harmful: list[Candidate] = []
        reasons: dict[str, Status] = {}
        budgets = self._handle.store("poddisruptionbudgets").list()
        offset = self._handle.rng.randrange(len(nodes)) if nodes else 0
        for i in range(len(nodes)):
            if harmless and len(harmless) + len(harmful) >= wanted:
                break
            node = nodes[(offset + i) % len(nodes)]
            victims = self._victims(state, pod, node, budgets)
            if isinstance(victims, Status):
                reasons[node.name] = victims
            else:
                (harmful if victims.violations else harmless).append(victims)
        return harmless + harmful, reasons

    def _victims(
        self, state: CycleState, pod: PodInfo, node: NodeInfo, budgets: Sequence[Object]
    ) -> Candidate | Status:
        """The fewest pods to remove from this node, tried out on copies of the state and the node."""
        framework = self.framework
        assert framework is not None
        potential = [other for other in node.pods.values() if other.priority < pod.priority]
        if not potential:
            return _NO_VICTIMS
        state, node = state.clone(), node.clone()

        def remove(other: PodInfo) -> None:
            node.remove_pod(other)
            framework.remove_pod(state, pod, other, node)

        def stays(other: PodInfo) -> bool:
            node.add_pod(other)
            framework.add_pod(state, pod, other, node)
            if framework.filter_with_nominated(state, pod, node) is None:
                return True
            remove(other)
            return False

        for other in potential:
            remove(other)
        if (objection := framework.filter_with_nominated(state, pod, node)) is not None:
            return objection
        potential.sort(key=_importance)
        violating, other_victims = split_by_budget(potential, budgets)
        must_go = [other for other in violating if not stays(other)]
        violations = len(must_go)
        must_go += [other for other in other_victims if not stays(other)]
        return Candidate(node.name, tuple(sorted(must_go, key=_importance)), violations)

    # -- acting -------------------------------------------------------------------------------------------------------

    async def _evict(self, pod: PodInfo, candidate: Candidate) -> None:
        """Delete the victims, and withdraw the node from pods of lower priority that it was promised to."""
        try:
            for victim in candidate.victims:
                await self._evict_one(pod, victim)
            for other in list(self._handle.nominator.on_node(candidate.node)):
                if other.priority < pod.priority and other.uid != pod.uid:
                    self._handle.nominator.remove(other.uid)
                    await self._patch(other, {"nominatedNodeName": None})
        finally:
            self._evicting.discard(pod.uid)

    async def _evict_one(self, pod: PodInfo, victim: PodInfo) -> None:
        """Mark the victim as disrupted and delete it; failures are logged."""
        if victim.deleting:
            return
        scheduler = pod.scheduler_name
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": timestamp(self._handle.clock.now()),
        }
        if "generation" in victim.obj["metadata"]:
            condition["observedGeneration"] = victim.obj["metadata"]["generation"]
        await self._patch(victim, {"conditions": [condition]})
        try:
            await self._handle.client.delete(PODS, victim.name, victim.namespace, uid=victim.uid)
        except (errors.NotFound, errors.Conflict):
            log.debug("victim %s/%s is gone already", *victim.key)
            return
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot preempt pod %s/%s: %s", *victim.key, problem)
            return
        message = f"Preempted by pod {pod.uid} on node {victim.node_name}"
        self._handle.recorder.event(victim.obj, "Normal", "Preempted", message, action="Preempting", related=pod.obj)

    async def _patch(self, pod: PodInfo, status: Object) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        try:
            await self._handle.client.patch(
                PODS, pod.name, patch, pod.namespace, type=STRATEGIC_MERGE, subresource="status"
            )
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot update the status of pod %s/%s: %s", *pod.key, problem)


def _being_preempted(pod: PodInfo) -> bool:
    return pod.deleting and any(
        c["type"] == "DisruptionTarget" and c["status"] == "True" and c.get("reason") == "PreemptionByScheduler"
        for c in pod.status.get("conditions") or ()
    )


def _started(pod: PodInfo) -> str:
    """When it started, as text that sorts; one that has not is the youngest."""
    return str(pod.status.get("startTime") or "9999")


def _importance(pod: PodInfo) -> tuple[int, str]:
    """Sorts the most important first: by priority, then by how long it has run."""
    return -pod.priority, _started(pod)


def split_by_budget(victims: Sequence[PodInfo], budgets: Sequence[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Those whose removal would break a PodDisruptionBudget, and the others."""
    allowed = {id(b): (b.get("status") or {}).get("disruptionsAllowed", 0) for b in budgets}
    violating: list[PodInfo] = []
    fine: list[PodInfo] = []
    for victim in victims:
        broken = False
        for budget in budgets:
            selector = selector_of(budget["spec"].get("selector"))
            disrupted = (budget.get("status") or {}).get("disruptedPods") or {}
            if (
                budget["metadata"]["namespace"] != victim.namespace
                or not victim.labels
                or selector.empty
                or not selector.matches(victim.labels)
                or victim.name in disrupted
            ):
                continue
            allowed[id(budget)] -= 1
            broken = broken or allowed[id(budget)] < 0
        (violating if broken else fine).append(victim)
    return violating, fine


def least_damage(candidates: Sequence[Candidate]) -> Candidate:
    """Fewest broken budgets, then the least important victim at the top, then the smallest sum of priorities, then
    the fewest victims, then those that have run the shortest."""

    def damage(candidate: Candidate) -> tuple[int, int, int, int]:
        victims = candidate.victims
        top = victims[0].priority if victims else -_LOWEST
        return candidate.violations, top, sum(v.priority + _LOWEST for v in victims), len(victims)

    least = min(map(damage, candidates))
    tied = [candidate for candidate in candidates if damage(candidate) == least]
    return max(
        tied, key=lambda c: min((_started(v) for v in c.victims if v.priority == c.victims[0].priority), default="")
    )
