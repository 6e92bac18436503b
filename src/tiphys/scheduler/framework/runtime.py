"""``Framework``: the plugins of one profile, and how they are called at each extension point.

A profile is the set of plugins for pods with one ``schedulerName``.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiphys.scheduler.cache import Cache
from tiphys.scheduler.framework import interface as points
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import EVERYTHING, Registration
from tiphys.scheduler.framework.interface import MAX_SCORE, PostFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Code, Status, error, unschedulable
from tiphys.scheduler.nominator import Nominator
from tiphys.scheduler.waiting import WaitingPods

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Profile:
    """The plugins at each extension point, in order; ``scores`` with their weights."""

    name: str
    queue_sort: points.QueueSortPlugin
    pre_enqueue: tuple[points.PreEnqueuePlugin, ...] = ()
    pre_filter: tuple[points.PreFilterPlugin, ...] = ()
    filter: tuple[points.FilterPlugin, ...] = ()
    post_filter: tuple[points.PostFilterPlugin, ...] = ()
    pre_score: tuple[points.PreScorePlugin, ...] = ()
    score: tuple[tuple[points.ScorePlugin, int], ...] = ()
    reserve: tuple[points.ReservePlugin, ...] = ()
    permit: tuple[points.PermitPlugin, ...] = ()
    pre_bind: tuple[points.PreBindPlugin, ...] = ()
    bind: tuple[points.BindPlugin, ...] = ()
    post_bind: tuple[points.PostBindPlugin, ...] = ()


@dataclass(slots=True)
class Diagnosis:
    """Why a pod fits nowhere."""

    statuses: dict[str, Status] = field(default_factory=dict)
    """By node, those that were looked at."""
    rest: Status | None = None
    """Of all other nodes."""
    pre_filter_message: str = ""
    post_filter_message: str = ""
    plugins: set[str] = field(default_factory=set)
    pending_plugins: set[str] = field(default_factory=set)

    def add(self, status: Status) -> None:
        if status.plugin and status.rejected:
            self.plugins.add(status.plugin)
            if status.code is Code.PENDING:
                self.pending_plugins.add(status.plugin)


class Framework:
    """Calls the plugins of one profile."""

    def __init__(self, profile: Profile, cache: Cache, nominator: Nominator) -> None:
        self.profile = profile
        self.name = profile.name
        self.cache = cache
        self.nominator = nominator
        self.waiting = WaitingPods()
        self._extensions = [p for p in profile.pre_filter if isinstance(p, points.PreFilterExtensions)]
        self._waiting_pre_binds = [p for p in profile.pre_bind if isinstance(p, points.WaitingPreBind)]
        self._vector_filters = [p for p in profile.filter if isinstance(p, points.VectorFilter)]
        self._other_filters = [p for p in profile.filter if not isinstance(p, points.VectorFilter)]
        self._vector_scores = [(p, weight) for p, weight in profile.score if isinstance(p, points.VectorScore)]
        self._other_scores = [(p, weight) for p, weight in profile.score if not isinstance(p, points.VectorScore)]

    # -- queue --------------------------------------------------------------------------------------------------------

    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        for plugin in self.profile.pre_enqueue:
            if (status := plugin.pre_enqueue(pod)) is not None:
                return status.by(plugin.name)
        return None

    def registrations(self) -> dict[str, tuple[Registration, ...]]:
        """What each plugin that can reject a pod wants to hear of."""
        profile, events_by_plugin = self.profile, {}
        for plugin in (
            *profile.pre_enqueue,
            *profile.pre_filter,
            *profile.filter,
            *profile.reserve,
            *profile.permit,
        ):
            if isinstance(plugin, points.EnqueueExtensions):
                events_by_plugin[plugin.name] = tuple(plugin.events())
            else:
                events_by_plugin[plugin.name] = (Registration(EVERYTHING),)
        return events_by_plugin

    # -- filtering ----------------------------------------------------------------------------------------------------

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[frozenset[str] | None, set[str], Status | None]:
        """The only nodes to look at (None: all), the plugins that said so, and a rejection or error."""
        names: frozenset[str] | None = None
        narrowed_by: set[str] = set()
        rejection: Status | None = None
        for plugin in self.profile.pre_filter:
            result, status = plugin.pre_filter(state, pod)
            if status is not None:
                if status.code is Code.SKIP:
                    state.skip_filter.add(plugin.name)
                    continue
                if status.code is Code.UNSCHEDULABLE:
                    rejection = status.by(plugin.name)  # removing pods could help: all prepare to try that out
                    continue
                return None, {plugin.name}, status.by(plugin.name)
            if result is not None and result.node_names is not None:
                names = result.node_names if names is None else names & result.node_names
                narrowed_by.add(plugin.name)
                if not names:
                    message = f"node(s) didn't satisfy plugin(s) [{' '.join(sorted(narrowed_by))}] simultaneously"
                    if len(narrowed_by) == 1:
                        message = f"node(s) didn't satisfy plugin {plugin.name}"
                    return names, narrowed_by, Status(Code.UNRESOLVABLE, (message,))
        return names, narrowed_by, rejection

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        """The first objection to the node."""
        skipped = state.skip_filter
        for plugin in self.profile.filter:
            if plugin.name not in skipped:
                status = plugin.filter(state, pod, node)
                if status is not None:
                    return status.by(plugin.name)
        return None

    def filter_with_nominated(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        """Also with the pods on the node that room was made for there: the pod must fit with and without them, as
        they may never come, and as affinity may need them."""
        nominated = [
            other
            for other in self.nominator.on_node(node.name)
            if other.priority >= pod.priority and other.uid != pod.uid and other.uid not in node.pods
        ]
        if nominated:
            with_them, their_node = state.clone(), node.clone()
            for other in nominated:
                assumed = other.assumed_on(node.name)
                their_node.add_pod(assumed)
                self.add_pod(with_them, pod, assumed, their_node)
            if (status := self.filter(with_them, pod, their_node)) is not None:
                return status
        return self.filter(state, pod, node)

    def filter_rows(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any]:
        """The rows of the node table that pass, by NumPy; nominated pods are not looked at."""
        import numpy as np

        table, skipped = self.cache.table, state.skip_filter
        mask = table.view(table.alive) > 0
        for _, passed in self._masks(state, pod):
            mask &= passed
        rows = np.flatnonzero(mask)
        for other in self._other_filters:
            if other.name not in skipped:
                passing = [row for row in rows if other.filter(state, pod, table.node(int(row))) is None]
                rows = np.array(passing, dtype=np.int64)
        return rows

    def objections(self, state: CycleState, pod: PodInfo) -> dict[str, Status]:
        """The first objection to each node, by NumPy: a plugin is asked only about the nodes that it turns down."""
        import numpy as np

        table = self.cache.table
        left = table.view(table.alive) > 0
        statuses: dict[str, Status] = {}
        for plugin, passed in self._masks(state, pod):
            for row in np.flatnonzero(left & ~passed):
                node = table.node(int(row))
                status = plugin.filter(state, pod, node)
                assert status is not None, f"{plugin.name} disagrees with itself about {node.name}"
                statuses[node.name] = status.by(plugin.name)
            left &= passed
        for row in np.flatnonzero(left):
            node = table.node(int(row))
            if (status := self.filter_with_nominated(state, pod, node)) is not None:
                statuses[node.name] = status
        return statuses

    def _masks(self, state: CycleState, pod: PodInfo) -> Iterator[tuple[Any, np.ndarray[Any, Any]]]:
        for plugin in self._vector_filters:
            if plugin.name not in state.skip_filter:
                passed = plugin.filter_all(state, pod)
                if passed is not None:
                    yield plugin, passed

    def add_pod(self, state: CycleState, pod: PodInfo, added: PodInfo, node: NodeInfo) -> None:
        for plugin in self._extensions:
            if plugin.name not in state.skip_filter:
                plugin.add_pod(state, pod, added, node)

    def remove_pod(self, state: CycleState, pod: PodInfo, removed: PodInfo, node: NodeInfo) -> None:
        for plugin in self._extensions:
            if plugin.name not in state.skip_filter:
                plugin.remove_pod(state, pod, removed, node)

    def post_filter(
        self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis
    ) -> tuple[PostFilterResult | None, Status | None]:
        """Let plugins make room, until one has; otherwise their messages together."""
        result: PostFilterResult | None = None
        reasons: list[str] = []
        for plugin in self.profile.post_filter:
            outcome, status = plugin.post_filter(state, pod, diagnosis.statuses, diagnosis.rest)
            if status is None or not status.rejected:
                return outcome, status
            result = outcome if outcome is not None else result
            reasons += status.reasons
        return result, unschedulable(*reasons) if reasons else None

    # -- scoring ------------------------------------------------------------------------------------------------------

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        for plugin in self.profile.pre_score:
            status = plugin.pre_score(state, pod, nodes)
            if status is not None:
                if status.code is not Code.SKIP:
                    return status.by(plugin.name)
                state.skip_score.add(plugin.name)
        return None

    def score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> list[int]:
        """The weighted sum of all plugins' scores, by node."""
        totals = [0] * len(nodes)
        for plugin, weight in self.profile.score:
            if plugin.name in state.skip_score:
                continue
            scores = [plugin.score(state, pod, node) for node in nodes]
            plugin.normalize(state, pod, scores, nodes)
            for i, score in enumerate(scores):
                if not 0 <= score <= MAX_SCORE:
                    raise ValueError(f"plugin {plugin.name} returns an invalid score {score}")
                totals[i] += score * weight
        return totals

    def score_rows(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The same for rows of the node table, by NumPy, less what is equal for all of them."""
        import numpy as np

        totals = np.zeros(len(rows), dtype=np.int64)
        for plugin, weight in self._vector_scores:
            if plugin.name not in state.skip_score:
                scores = plugin.score_all(state, pod, rows)
                if scores is not None:
                    totals += scores * weight
        nodes = [self.cache.table.node(int(row)) for row in rows] if self._other_scores else []
        for other, weight in self._other_scores:
            if other.name not in state.skip_score:
                listed = [other.score(state, pod, node) for node in nodes]
                other.normalize(state, pod, listed, nodes)
                totals += np.array(listed, dtype=np.int64) * weight
        return totals

    # -- binding ------------------------------------------------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        for plugin in self.profile.reserve:
            if (status := plugin.reserve(state, pod, node)) is not None:
                return status.by(plugin.name)
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        for plugin in reversed(self.profile.reserve):
            plugin.unreserve(state, pod, node)

    def permit(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """None to continue, ``WAIT`` if a plugin holds the pod, or a rejection."""
        waits: dict[str, float] = {}
        for plugin in self.profile.permit:
            status, seconds = plugin.permit(state, pod, node)
            if status is None:
                continue
            if status.code is not Code.WAIT:
                return status.by(plugin.name)
            waits[plugin.name] = seconds
        if not waits:
            return None
        self.waiting.add(pod, waits)
        return Status(Code.WAIT)

    def waits(self, state: CycleState, pod: PodInfo) -> bool:
        """Whether binding the pod waits for something outside of the scheduler."""
        if self.waiting.get(pod.uid) is not None:
            return True
        return any(plugin.waits(state, pod) for plugin in self._waiting_pre_binds)

    async def wait_on_permit(self, pod: PodInfo) -> Status | None:
        return await self.waiting.wait(pod)

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        for plugin in self.profile.pre_bind:
            if (status := await plugin.pre_bind(state, pod, node)) is not None:
                return status.by(plugin.name)
        return None

    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        for plugin in self.profile.bind:
            status = await plugin.bind(state, pod, node)
            if status is None or status.code is not Code.SKIP:
                return status.by(plugin.name) if status is not None else None
        return error("no bind plugin would bind the pod")

    def post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        for plugin in self.profile.post_bind:
            plugin.post_bind(state, pod, node)
