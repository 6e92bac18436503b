"""How a node is chosen for one pod, as an outline: pre-filter, filter, post-filter if none passes, score, choose.

It is synchronous: no event is handled meanwhile, so the decision is made on one state of the cluster. What follows the
decision (assume, reserve, permit, bind) is in ``scheduler``.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.runtime import Diagnosis, Framework
from tiphys.scheduler.framework.status import Code, Status
from tiphys.scheduler.messages import NO_NODES, no_fit

if TYPE_CHECKING:
    import numpy as np


@dataclass(slots=True)
class Placement:
    """The node that was chosen."""

    node: str
    state: CycleState


@dataclass(slots=True)
class Failure:
    """Why no node was. ``status`` is a rejection, or an error."""

    status: Status
    message: str
    plugins: frozenset[str] = frozenset()
    pending_plugins: frozenset[str] = frozenset()
    nominate: str | None = ""
    """The node to nominate, empty to withdraw a nomination, None to leave it."""


class CycleError(Exception):
    """A plugin failed; the pod is tried again."""


def schedule(framework: Framework, pod: PodInfo, rng: random.Random) -> Placement | Failure:
    """Choose a node for the pod: filter, score, take the best; or make room, and say why there was none."""
    state = CycleState()
    table = framework.cache.table
    if not len(table):
        return Failure(Status(Code.UNRESOLVABLE), NO_NODES)
    diagnosis = Diagnosis()
    try:
        feasible = find_feasible(framework, state, pod, diagnosis)
        if len(feasible):
            return Placement(choose(framework, state, pod, feasible, rng), state)
    except CycleError as problem:
        return Failure(Status(Code.ERROR, (str(problem),)), str(problem))
    result, status = framework.post_filter(state, pod, diagnosis)
    if status is not None:
        diagnosis.post_filter_message = status.message
    message = no_fit(
        len(table),
        diagnosis.statuses,
        diagnosis.rest,
        pre_filter=diagnosis.pre_filter_message,
        post_filter=diagnosis.post_filter_message,
    )
    return Failure(
        Status(Code.UNSCHEDULABLE),
        message,
        frozenset(diagnosis.plugins),
        frozenset(diagnosis.pending_plugins),
        result.nominated_node if result is not None else None,
    )


def find_feasible(framework: Framework, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> Sequence[NodeInfo]:
    """The nodes that every filter accepts; ``diagnosis`` gets the objections."""
    table = framework.cache.table
    names, narrowed_by, status = framework.pre_filter(state, pod)
    if status is not None:
        if not status.rejected:
            raise CycleError(status.message)
        diagnosis.rest, diagnosis.pre_filter_message = status, status.message
        diagnosis.plugins |= narrowed_by
        diagnosis.add(status)
        return ()
    nominated = framework.nominator.node_of(pod.uid) or pod.nominated_node
    if nominated:
        node = table.get(nominated)
        if node is not None and framework.filter_with_nominated(state, pod, node) is None:
            return (node,)
    if names is not None:
        diagnosis.plugins |= narrowed_by
        reason = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowed_by))}]"
        diagnosis.rest = Status(Code.UNRESOLVABLE, (reason,))
        nodes = [node for name in names if (node := table.get(name)) is not None]
        return filter_one_by_one(framework, state, pod, nodes, diagnosis)
    if table.vectorized:
        rows = filter_at_once(framework, state, pod)
        if not len(rows):
            for name, objection in framework.objections(state, pod).items():
                diagnosis.statuses[name] = objection
                diagnosis.add(objection)
        return rows
    return filter_one_by_one(framework, state, pod, table, diagnosis)


def filter_one_by_one(
    framework: Framework, state: CycleState, pod: PodInfo, nodes: Any, diagnosis: Diagnosis
) -> list[NodeInfo]:
    feasible = []
    for node in nodes:
        status = framework.filter_with_nominated(state, pod, node)
        if status is None:
            feasible.append(node)
        elif status.rejected:
            diagnosis.statuses[node.name] = status
            diagnosis.add(status)
        else:
            raise CycleError(f'running "{status.plugin}" filter plugin: {status.message}')
    return feasible


class Rows(Sequence[NodeInfo]):
    """Nodes by their rows in the table; made into a list only if a plugin goes through them."""

    def __init__(self, table_rows: list[NodeInfo | None], rows: np.ndarray[Any, Any]) -> None:
        self._table_rows = table_rows
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self._table_rows[self.rows[index]]

    def __iter__(self) -> Iterator[NodeInfo]:
        return (self._table_rows[row] for row in self.rows)


def filter_at_once(framework: Framework, state: CycleState, pod: PodInfo) -> Rows:
    """By NumPy; nodes that are promised to other pods are looked at again with those."""
    table = framework.cache.table
    rows = framework.filter_rows(state, pod)
    promised = [
        node.row
        for name in framework.nominator.nodes()
        if (node := table.get(name)) is not None and framework.filter_with_nominated(state, pod, node) is not None
    ]
    if promised:
        import numpy as np

        rows = rows[~np.isin(rows, promised)]
    return Rows(table.rows, rows)


def choose(
    framework: Framework, state: CycleState, pod: PodInfo, feasible: Sequence[NodeInfo], rng: random.Random
) -> str:
    """The node with the highest score; one of the best at random if several are equal."""
    if len(feasible) == 1:
        return str(feasible[0].name)
    status = framework.pre_score(state, pod, feasible)
    if status is not None:
        raise CycleError(f'running PreScore plugin "{status.plugin}": {status.message}')
    if isinstance(feasible, Rows):
        totals = framework.score_rows(state, pod, feasible.rows)
        best = (totals == totals.max()).nonzero()[0]
        return str(feasible[int(best[rng.randrange(len(best))])].name)
    scores = framework.score(state, pod, feasible)
    highest = max(scores)
    return str(rng.choice([node.name for node, score in zip(feasible, scores, strict=True) if score == highest]))
