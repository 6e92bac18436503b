"""The extension points, one Protocol each, in the order in which a pod meets them.

All but ``pre_bind``, ``bind`` and ``wait``-ing permits run within one synchronous scheduling cycle: nothing changes
under a plugin's hands, so none needs a lock or a copy of the cluster.

A filter or score plugin may also decide for all nodes at once (``VectorFilter``, ``VectorScore``), with NumPy over the
columns of the ``NodeTable``; large clusters use that, small ones never import NumPy. Both forms must agree, and the
tests hold them to it. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Registration
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo, QueuedPod
from tiphys.scheduler.framework.status import Status

if TYPE_CHECKING:
    import numpy as np


MAX_SCORE = 100


class Plugin(Protocol):
    name: str


class PreEnqueuePlugin(Plugin, Protocol):
    def pre_enqueue(self, pod: PodInfo) -> Status | None:
        """Whether the pod may be queued at all; a refused one is not tried until it changes."""
        ...


class QueueSortPlugin(Plugin, Protocol):
    def key(self, queued: QueuedPod) -> Any:
        """Smaller comes first."""
        ...


@dataclass(frozen=True, slots=True)
class PreFilterResult:
    node_names: frozenset[str] | None = None
    """The only nodes worth a look; None for all."""


@runtime_checkable
class PreFilterPlugin(Plugin, Protocol):
    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        """Prepare; ``SKIP`` leaves this plugin's filter out, a rejection ends the cycle."""
        ...


@runtime_checkable
class PreFilterExtensions(Plugin, Protocol):
    """For plugins whose prepared state depends on other pods: keeps it right while preemption is simulated."""

    def add_pod(self, state: CycleState, pod: PodInfo, added: PodInfo, node: NodeInfo) -> None: ...

    def remove_pod(self, state: CycleState, pod: PodInfo, removed: PodInfo, node: NodeInfo) -> None: ...


@runtime_checkable
class FilterPlugin(Plugin, Protocol):
    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None: ...


@runtime_checkable
class VectorFilter(Plugin, Protocol):
    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        """For each row of the node table whether the pod may go there; None if all may."""
        ...


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    nominated_node: str | None
    """The node to nominate, empty to clear the nomination, None to leave it."""


@runtime_checkable
class PostFilterPlugin(Plugin, Protocol):
    def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: Mapping[str, Status], rest: Status | None
    ) -> tuple[PostFilterResult | None, Status | None]:
        """Make room. ``statuses`` says per node why it was filtered out, ``rest`` why all others were."""
        ...


@runtime_checkable
class PreScorePlugin(Plugin, Protocol):
    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Status | None:
        """Prepare for the nodes that passed; ``SKIP`` leaves this plugin's score out."""
        ...


@runtime_checkable
class ScorePlugin(Plugin, Protocol):
    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int: ...

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> None:
        """Bring the scores into 0 … ``MAX_SCORE``, in place."""
        ...


@runtime_checkable
class VectorScore(Plugin, Protocol):
    def score_all(self, state: CycleState, pod: PodInfo, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        """Normalized scores of the given rows; None if all are equal."""
        ...


@runtime_checkable
class ReservePlugin(Plugin, Protocol):
    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> Status | None: ...

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Undo ``reserve``; also called if it has not been, and must not fail."""
        ...


@runtime_checkable
class PermitPlugin(Plugin, Protocol):
    def permit(self, state: CycleState, pod: PodInfo, node: str) -> tuple[Status | None, float]:
        """Allow, reject, or ``WAIT`` for at most the seconds given."""
        ...


@runtime_checkable
class PreBindPlugin(Plugin, Protocol):
    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None: ...


@runtime_checkable
class WaitingPreBind(Plugin, Protocol):
    """For a ``pre_bind`` that may wait for others for long: it does not hold one of the places for bindings."""

    def waits(self, state: CycleState, pod: PodInfo) -> bool: ...


@runtime_checkable
class BindPlugin(Plugin, Protocol):
    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> Status | None:
        """Bind; ``SKIP`` leaves it to the next binder."""
        ...


@runtime_checkable
class PostBindPlugin(Plugin, Protocol):
    def post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None: ...


@runtime_checkable
class EnqueueExtensions(Plugin, Protocol):
    """What may make a pod schedulable that this plugin has rejected. Without it: anything."""

    def events(self) -> Iterable[Registration]: ...
