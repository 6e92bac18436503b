"""PodTopologySpread: keeps the pods that a selector names spread evenly over zones, hosts, or other domains.

Constraints with DoNotSchedule filter: the domain may have at most ``maxSkew`` more than the emptiest one. Those with
ScheduleAnyway score. Pods without constraints of their own, but with a Service or a controller, are spread over hosts
and zones by score. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.api.meta.selectors import NOTHING, Selector
from tiphys.api.object import Object
from tiphys.api.scheduling.taints import HARD, untolerated
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.domains import Sums, eligible_sums, sums_all
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import MAX_SCORE, PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unresolvable, unschedulable
from tiphys.scheduler.framework.terms import selector_of, with_labels
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.plugins.default_selector import default_selector
from tiphys.scheduler.podindex import Clause, Question
from tiphys.scheduler.table import Column, Topology

if TYPE_CHECKING:
    import numpy as np


REASON = "node(s) didn't match pod topology spread constraints"
REASON_LABEL = f"{REASON} (missing required label)"

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SYSTEM_DEFAULTS: tuple[Object, ...] = (
    {"maxSkew": 3, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
)
_NO_MINIMUM = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Constraint:
    max_skew: int
    key: str
    selector: Selector
    min_domains: int
    honor_affinity: bool
    honor_taints: bool


@dataclass(slots=True)
class _Spread:
    """One hard constraint, with what is there: matching pods by domain, and which domains count."""

    constraint: Constraint
    topology: Topology
    itself: int
    """1 if the pod to place matches the selector too."""
    counts: Sums
    present: Sums

    def minimum(self) -> int:
        """The emptiest domain's count; 0 if there are fewer domains than requested."""
        if hasattr(self.counts, "dtype"):
            inside = self.counts[self.present > 0]
            number, least = len(inside), int(inside.min(initial=_NO_MINIMUM))
        else:
            listed = [count for count, nodes in zip(self.counts, self.present, strict=True) if nodes]
            number, least = len(listed), min(listed, default=_NO_MINIMUM)
        return 0 if number < self.constraint.min_domains else least


class _Hard:
    """The state between pre-filter and filter; minima are kept until a simulated pod changes them."""

    def __init__(self, spreads: list[_Spread]) -> None:
        self.spreads = spreads
        self.minima = [spread.minimum() for spread in spreads]

    def clone(self) -> _Hard:
        return _Hard([_Spread(s.constraint, s.topology, s.itself, s.counts.copy(), s.present) for s in self.spreads])


@dataclass(slots=True)
class _Soft:
    """The state between pre-score and score; counted on first use."""

    constraints: list[Constraint]
    require_all: bool
    nodes: Sequence[NodeInfo]
    counts: list[dict[int, int]] | None = None
    weights: list[float] | None = None
    ignored: frozenset[int] = frozenset()


class PodTopologySpread:
    name = "PodTopologySpread"

    def __init__(self, handle: Handle, default_constraints: tuple[Object, ...] | None = None) -> None:
        """``default_constraints`` replace the system's (those are used if it is None)."""
        self._handle = handle
        self._table, self._index = handle.cache.table, handle.cache.index
        self._system_defaults = default_constraints is None
        self._defaults = SYSTEM_DEFAULTS if default_constraints is None else default_constraints

    def _constraints(self, pod: PodInfo, action: str) -> list[Constraint]:
        own = pod.spec.get("topologySpreadConstraints")
        if own:
            return [_constraint(c, pod, None) for c in own if c["whenUnsatisfiable"] == action]
        defaults = [c for c in self._defaults if c["whenUnsatisfiable"] == action]
        if not defaults:
            return []
        selector = default_selector(pod, self._handle)
        return [] if selector.empty else [_constraint(c, pod, selector) for c in defaults]

    def _column(self, constraint: Constraint, pod: PodInfo) -> Column:
        """Matching pods by row. A selector that names nothing in particular counts nothing."""
        selector = NOTHING if constraint.selector.empty else constraint.selector
        clause = Clause(frozenset({pod.namespace}), NOTHING, selector)
        return self._index.counts(Question((clause,), terminating=False))

    def _counts_for(self, constraint: Constraint, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether the node counts when skew is judged."""
        required = pod.required_nodes if constraint.honor_affinity else None
        if required is not None and not required.matches(node.name, node.labels):
            return False
        return not (constraint.honor_taints and untolerated(node.taints, pod.tolerations, HARD))

    # -- filter -------------------------------------------------------------------------------------------------------

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        """Count the matching pods in each domain of the hard constraints, for ``filter``; SKIP without constraints."""
        constraints = self._constraints(pod, "DoNotSchedule")
        if not constraints:
            return None, SKIP
        topologies = [self._table.topology(c.key) for c in constraints]
        if self._table.vectorized:
            counted = self._count_all(constraints, topologies, pod)
        else:
            counted = [self._count(c, topologies, i, pod) for i, c in enumerate(constraints)]
        state.data[self.name] = _Hard(
            [
                _Spread(c, topology, int(c.selector.matches(pod.labels)), *sums)
                for c, topology, sums in zip(constraints, topologies, counted, strict=True)
            ]
        )
        return None, None

    def _count(self, constraint: Constraint, topologies: list[Topology], i: int, pod: PodInfo) -> tuple[Sums, Sums]:
        def eligible(node: NodeInfo) -> bool:
            return all(t.ids.data[node.row] >= 0 for t in topologies) and self._counts_for(constraint, pod, node)

        return eligible_sums(self._table, topologies[i], self._column(constraint, pod), eligible)

    def _count_all(
        self, constraints: list[Constraint], topologies: list[Topology], pod: PodInfo
    ) -> list[tuple[Sums, Sums]]:
        view = self._table.view
        labelled = view(topologies[0].ids) >= 0
        for topology in topologies[1:]:
            labelled = labelled & (view(topology.ids) >= 0)
        sums = []
        for constraint, topology in zip(constraints, topologies, strict=True):
            eligible = labelled
            if (constraint.honor_affinity and pod.required_nodes is not None) or constraint.honor_taints:
                import numpy as np

                rows = self._table.rows
                eligible = labelled & np.array(
                    [node is not None and self._counts_for(constraint, pod, node) for node in rows], dtype=bool
                )
            sums.append(sums_all(self._table, topology, self._column(constraint, pod), eligible))
        return sums

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        hard: _Hard = state.data[self.name]
        for spread, minimum in zip(hard.spreads, hard.minima, strict=True):
            domain = spread.topology.ids.data[node.row]
            if domain < 0:
                return unresolvable(REASON_LABEL)
            if spread.counts[domain] + spread.itself - minimum > spread.constraint.max_skew:
                return unschedulable(REASON)
        return None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        hard: _Hard = state.data[self.name]
        mask = None
        for spread, minimum in zip(hard.spreads, hard.minima, strict=True):
            ids = self._table.view(spread.topology.ids)
            if not spread.topology.values:
                return ids >= 0
            limit = spread.constraint.max_skew - spread.itself + minimum
            passed = (ids >= 0) & (spread.counts[ids] <= limit)
            mask = passed if mask is None else mask & passed
        return mask

    def add_pod(self, state: CycleState, pod: PodInfo, added: PodInfo, node: NodeInfo) -> None:
        self._simulate(state, pod, added, node, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, removed: PodInfo, node: NodeInfo) -> None:
        self._simulate(state, pod, removed, node, -1)

    def _simulate(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo, sign: int) -> None:
        hard: _Hard = state.data[self.name]
        if other.namespace != pod.namespace:
            return
        if any(spread.topology.ids.data[node.row] < 0 for spread in hard.spreads):
            return
        for i, spread in enumerate(hard.spreads):
            if spread.constraint.selector.matches(other.labels) and self._counts_for(spread.constraint, pod, node):
                spread.counts[spread.topology.ids.data[node.row]] += sign
                hard.minima[i] = spread.minimum()

    # -- score --------------------------------------------------------------------------------------------------------

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        constraints = self._constraints(pod, "ScheduleAnyway")
        if not constraints:
            return SKIP
        # Nodes without a zone are still spread over by host under the system's own constraints.
        require_all = bool(pod.spec.get("topologySpreadConstraints")) or not self._system_defaults
        state.data[f"{self.name}/score"] = _Soft(constraints, require_all, nodes)
        return None

    def _soft(self, state: CycleState, pod: PodInfo) -> _Soft:
        soft: _Soft = state.data[f"{self.name}/score"]
        if soft.counts is None:
            self._count_soft(soft, pod)
        return soft

    def _count_soft(self, soft: _Soft, pod: PodInfo) -> None:
        topologies = [self._table.topology(c.key) for c in soft.constraints]

        def lacks_label(node: NodeInfo) -> bool:
            return soft.require_all and any(t.ids.data[node.row] < 0 for t in topologies)

        soft.ignored = frozenset(node.row for node in soft.nodes if lacks_label(node))
        soft.counts, soft.weights = [], []
        for constraint, topology in zip(soft.constraints, topologies, strict=True):
            ids = topology.ids.data
            column = self._column(constraint, pod)
            if constraint.key == HOSTNAME:
                soft.counts.append({ids[n.row]: column.data[n.row] for n in soft.nodes})
                soft.weights.append(math.log(len(soft.nodes) - len(soft.ignored) + 2))
                continue
            domains = dict.fromkeys((ids[n.row] for n in soft.nodes if n.row not in soft.ignored), 0)
            for node in self._table:
                if ids[node.row] in domains and not lacks_label(node) and self._counts_for(constraint, pod, node):
                    domains[ids[node.row]] += column.data[node.row]
            soft.counts.append(domains)
            soft.weights.append(math.log(len(domains) + 2))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        soft = self._soft(state, pod)
        if node.row in soft.ignored:
            return 0
        assert soft.counts is not None
        assert soft.weights is not None
        total = 0.0
        for constraint, counts, weight in zip(soft.constraints, soft.counts, soft.weights, strict=True):
            domain = self._table.topology(constraint.key).ids.data[node.row]
            if domain >= 0:
                total += counts[domain] * weight + (constraint.max_skew - 1)
        return math.floor(total + 0.5)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        soft = self._soft(state, pod)
        counted = [score for score, node in zip(scores, nodes, strict=True) if node.row not in soft.ignored]
        least, most = min(counted, default=0), max(counted, default=0)
        for i, node in enumerate(nodes):
            if node.row in soft.ignored:
                scores[i] = 0
            else:
                scores[i] = MAX_SCORE * (most + least - scores[i]) // most if most else MAX_SCORE

    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """A score from 0 to 100 for each of ``rows``, higher with fewer matching pods; None if no row counts."""
        import numpy as np

        soft: _Soft = state.data[f"{self.name}/score"]
        table, view = self._table, self._table.view
        topologies = [table.topology(c.key) for c in soft.constraints]
        labelled = np.ones(len(table.rows), dtype=bool)
        if soft.require_all:
            for topology in topologies:
                labelled &= view(topology.ids) >= 0
        scored = labelled[rows]
        total = np.zeros(len(rows))
        for constraint, topology in zip(soft.constraints, topologies, strict=True):
            ids, column = view(topology.ids), self._column(constraint, pod)
            here = ids[rows]
            if constraint.key == HOSTNAME:
                counts, domains = view(column)[rows], int(scored.sum())
            else:
                ((by_domain, _),) = self._count_soft_all(constraint, topology, column, labelled, pod)
                domains = len(np.unique(here[scored]))
                counts = by_domain[here] if len(by_domain) else np.zeros(len(rows))
            total += np.where(here >= 0, counts * math.log(domains + 2) + (constraint.max_skew - 1), 0)
        whole = np.floor(total + 0.5).astype(np.int64)
        if not scored.any():
            return None
        least, most = int(whole[scored].min()), int(whole[scored].max())
        scores = MAX_SCORE * (most + least - whole) // most if most else np.full(len(rows), MAX_SCORE)
        result: np.ndarray[Any, Any] = np.where(scored, scores, 0)
        return result

    def _count_soft_all(
        self, constraint: Constraint, topology: Topology, column: Column, labelled: Any, pod: PodInfo
    ) -> list[tuple[Sums, Sums]]:
        eligible = labelled
        if (constraint.honor_affinity and pod.required_nodes is not None) or constraint.honor_taints:
            import numpy as np

            rows = self._table.rows
            eligible = labelled & np.array(
                [node is not None and self._counts_for(constraint, pod, node) for node in rows], dtype=bool
            )
        return [sums_all(self._table, topology, column, eligible)]

    # -- what helps ---------------------------------------------------------------------------------------------------

    def events(self) -> Iterable[Registration]:
        """The events after which a pod that this plugin refused may fit."""

        def pod_changed(pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
            """Pods that come, go or change labels move the balance if they match."""
            constraints = self._constraints(pod, "DoNotSchedule")
            return any(
                other.namespace == pod.namespace and any(c.selector.matches(other.labels) for c in constraints)
                for other in (old, new)
                if other is not None
            )

        def node_changed(pod: PodInfo, old: NodeInfo | None, new: NodeInfo) -> bool:
            return all(c.key in new.labels for c in self._constraints(pod, "DoNotSchedule"))

        changes = Action.ADD | Action.DELETE | Action.UPDATE_LABEL
        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, changes), pod_changed)
        yield Registration(ClusterEvent(Resource.POD, Action.UPDATE_LABEL))
        yield Registration(
            ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_LABEL | Action.UPDATE_TAINT), node_changed
        )
        yield Registration(ClusterEvent(Resource.NODE, Action.DELETE))


def _constraint(described: Object, pod: PodInfo, selector: Selector | None) -> Constraint:
    if selector is None:
        selector = selector_of(described.get("labelSelector"))
        selector = with_labels(selector, described.get("matchLabelKeys"), pod.labels)
    return Constraint(
        described["maxSkew"],
        described["topologyKey"],
        selector,
        described.get("minDomains") or 1,
        described.get("nodeAffinityPolicy", "Honor") == "Honor",
        described.get("nodeTaintsPolicy", "Ignore") == "Honor",
    )
