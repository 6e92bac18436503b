"""InterPodAffinity: pods that want to be, or must not be, in one domain with certain other pods.

Terms of the pod to place are asked of the pods that are there, and the other way round: required anti-affinity of a pod
that is there keeps others away, and its preferences score. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.domains import Sums, sums
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import MAX_SCORE, PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unresolvable, unschedulable
from tiphys.scheduler.framework.terms import AffinityTerm, Labels
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.podindex import TermKind, question_of
from tiphys.scheduler.table import Topology

if TYPE_CHECKING:
    import numpy as np

EXISTING_REASON = "node(s) didn't satisfy existing pods anti-affinity rules"
AFFINITY_REASON = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY_REASON = "node(s) didn't match pod anti-affinity rules"


@dataclass(slots=True)
class _Domains:
    """A count for each domain of one topology."""

    topology: Topology
    counts: Sums

    def at(self, node: NodeInfo) -> int:
        """The count in the node's domain; -1 if it is in none."""
        domain = self.topology.ids.data[node.row]
        return int(self.counts[domain]) if domain >= 0 else -1

    def add(self, node: NodeInfo, amount: int) -> None:
        domain = self.topology.ids.data[node.row]
        if domain >= 0:
            self.counts[domain] += amount

    def clone(self) -> _Domains:
        return _Domains(self.topology, self.counts.copy())


@dataclass(slots=True)
class _State:
    affinity: list[_Domains]
    """By the pod's terms: pods that match all of them."""
    anti_affinity: list[_Domains]
    """By the pod's terms: pods that match."""
    existing: dict[str, _Domains]
    """By topology key: pods whose anti-affinity forbids this one."""
    matches_itself: bool

    def clone(self) -> _State:
        return _State(
            [domains.clone() for domains in self.affinity],
            [domains.clone() for domains in self.anti_affinity],
            {key: domains.clone() for key, domains in self.existing.items()},
            self.matches_itself,
        )

    def first_of_its_kind(self) -> bool:
        """No pod matches yet, and this one would: somebody has to be the first."""
        return self.matches_itself and not any(sum(domains.counts) for domains in self.affinity)


class InterPodAffinity:
    name = "InterPodAffinity"

    def __init__(
        self, handle: Handle, hard_pod_affinity_weight: int = 1, *, ignore_preferred_of_existing: bool = False
    ) -> None:
        self._table, self._index = handle.cache.table, handle.cache.index
        self._hard_weight = hard_pod_affinity_weight
        self._ignore_existing = ignore_preferred_of_existing

    def _domains(self, term: AffinityTerm, *together: AffinityTerm) -> _Domains:
        topology = self._table.topology(term.topology_key)
        column = self._index.counts(question_of(*(together or (term,))))
        return _Domains(topology, sums(self._table, topology, column))

    # -- filter -------------------------------------------------------------------------------------------------------

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        required, forbidden = pod.required_affinity, pod.required_anti_affinity
        labels = self._index.labels_of_namespace(pod.namespace)
        existing = self._forbidding(pod, labels)
        if not required and not forbidden and not existing:
            return None, SKIP
        state.data[self.name] = _State(
            [self._domains(term, *required) for term in required],
            [self._domains(term) for term in forbidden],
            existing,
            bool(required) and all(term.matches(pod.namespace, pod.labels, labels) for term in required),
        )
        return None, None

    def _forbidding(self, pod: PodInfo, labels: Labels) -> dict[str, _Domains]:
        domains: dict[str, _Domains] = {}
        for _, owners in self._index.owners(TermKind.FORBIDDEN):
            if not owners.term.matches(pod.namespace, pod.labels, labels):
                continue
            topology = self._table.topology(owners.term.topology_key)
            counts = sums(self._table, topology, owners.column)
            if topology.key in domains:
                before = domains[topology.key].counts
                counts = (
                    before + counts
                    if hasattr(counts, "dtype")
                    else [a + b for a, b in zip(before, counts, strict=True)]
                )
            domains[topology.key] = _Domains(topology, counts)
        return domains

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        prepared: _State = state.data[self.name]
        if prepared.affinity:
            counts = [domains.at(node) for domains in prepared.affinity]
            if min(counts) < 0 or (min(counts) == 0 and not prepared.first_of_its_kind()):
                return unresolvable(AFFINITY_REASON)
        if any(domains.at(node) > 0 for domains in prepared.anti_affinity):
            return unschedulable(ANTI_AFFINITY_REASON)
        if any(domains.at(node) > 0 for domains in prepared.existing.values()):
            return unschedulable(EXISTING_REASON)
        return None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        """A mask over all rows of the table: True if the pod's and the existing pods' terms all allow the node."""
        import numpy as np

        prepared: _State = state.data[self.name]
        view = self._table.view
        mask = np.ones(len(self._table.rows), dtype=bool)
        first = prepared.first_of_its_kind()
        for domains in prepared.affinity:
            ids = view(domains.topology.ids)
            mask &= ids >= 0
            if not first and len(domains.counts):
                mask &= domains.counts[ids] > 0
        for domains in (*prepared.anti_affinity, *prepared.existing.values()):
            ids = view(domains.topology.ids)
            if len(domains.counts):
                mask &= (ids < 0) | (domains.counts[ids] == 0)
        return mask

    def add_pod(self, state: CycleState, pod: PodInfo, added: PodInfo, node: NodeInfo) -> None:
        self._simulate(state, pod, added, node, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, removed: PodInfo, node: NodeInfo) -> None:
        self._simulate(state, pod, removed, node, -1)

    def _simulate(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo, sign: int) -> None:
        prepared: _State = state.data[self.name]
        labels = self._index.labels_of_namespace(pod.namespace)
        for term in other.required_anti_affinity:
            if term.matches(pod.namespace, pod.labels, labels):
                if term.topology_key not in prepared.existing:
                    topology = self._table.topology(term.topology_key)
                    prepared.existing[topology.key] = _Domains(topology, [0] * len(topology.values))
                prepared.existing[term.topology_key].add(node, sign)
        theirs = self._index.labels_of_namespace(other.namespace)
        if all(term.matches(other.namespace, other.labels, theirs) for term in pod.required_affinity):
            for domains in prepared.affinity:
                domains.add(node, sign)
        for term, domains in zip(pod.required_anti_affinity, prepared.anti_affinity, strict=True):
            if term.matches(other.namespace, other.labels, theirs):
                domains.add(node, sign)

    # -- score --------------------------------------------------------------------------------------------------------

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        """Sum up per domain what each term, of this pod and of those that are there, says of it."""
        own = [(term, term.weight) for term in pod.preferred_affinity]
        own += [(term, -term.weight) for term in pod.preferred_anti_affinity]
        if not own and (self._ignore_existing or not self._index.has_terms):
            return SKIP
        scores: dict[str, _Domains] = {}
        for term, weight in own:
            domains = self._domains(term)
            self._weigh(scores, domains.topology, domains.counts, weight)
        labels = self._index.labels_of_namespace(pod.namespace)
        weights = {TermKind.PREFERRED: 1, TermKind.AVOIDED: -1, TermKind.REQUIRED: self._hard_weight}
        for kind, owners in self._index.owners(*weights):
            weight = weights[kind] * (1 if kind is TermKind.REQUIRED else owners.term.weight)
            if weight and owners.term.matches(pod.namespace, pod.labels, labels):
                topology = self._table.topology(owners.term.topology_key)
                self._weigh(scores, topology, sums(self._table, topology, owners.column), weight)
        if not scores:
            return SKIP
        state.data[f"{self.name}/score"] = list(scores.values())
        return None

    @staticmethod
    def _weigh(scores: dict[str, _Domains], topology: Topology, counts: Sums, weight: int) -> None:
        if not any(counts):
            return
        weighted = counts * weight if hasattr(counts, "dtype") else [count * weight for count in counts]
        if topology.key in scores:
            before = scores[topology.key].counts
            weighted = (
                before + weighted
                if hasattr(weighted, "dtype")
                else [a + b for a, b in zip(before, weighted, strict=True)]
            )
        scores[topology.key] = _Domains(topology, weighted)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        total = 0
        for domains in state.data[f"{self.name}/score"]:
            domain = domains.topology.ids.data[node.row]
            if domain >= 0:
                total += int(domains.counts[domain])
        return total

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        least, most = min(scores, default=0), max(scores, default=0)
        for i, score in enumerate(scores):
            scores[i] = int(MAX_SCORE * ((score - least) / (most - least))) if most > least else 0

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        import numpy as np

        total = np.zeros(len(rows), dtype=np.int64)
        for domains in state.data[f"{self.name}/score"]:
            ids = self._table.view(domains.topology.ids)[rows]
            total += np.where(ids >= 0, domains.counts[ids], 0)
        least, most = int(total.min()), int(total.max())
        if most == least:
            return None
        scores: np.ndarray[Any, Any] = (MAX_SCORE * ((total - least) / (most - least))).astype(np.int64)
        return scores

    # -- what helps ---------------------------------------------------------------------------------------------------

    def events(self) -> Iterable[Registration]:
        """The events after which a pod that this plugin refused may fit."""

        def pod_changed(pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
            """A pod that this one wants came, or one that is in its way went."""
            labels = self._index.labels_of_namespace(pod.namespace)

            def wanted(other: PodInfo) -> bool:
                theirs = self._index.labels_of_namespace(other.namespace)
                return any(term.matches(other.namespace, other.labels, theirs) for term in pod.required_affinity)

            def in_the_way(other: PodInfo) -> bool:
                theirs = self._index.labels_of_namespace(other.namespace)
                return any(
                    term.matches(other.namespace, other.labels, theirs) for term in pod.required_anti_affinity
                ) or any(term.matches(pod.namespace, pod.labels, labels) for term in other.required_anti_affinity)

            return (new is not None and wanted(new)) or (old is not None and in_the_way(old))

        changes = Action.ADD | Action.DELETE | Action.UPDATE_LABEL
        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, changes), pod_changed)
        yield Registration(ClusterEvent(Resource.POD, Action.UPDATE_LABEL))
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_LABEL))
