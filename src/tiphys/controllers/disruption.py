"""The disruption controller: how many pods of each PodDisruptionBudget may be evicted now.

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from tiphys.api import gotext
from tiphys.api.meta.conditions import set_condition
from tiphys.api.meta.intorstring import ScaleError, scaled_value
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.discovery import Discovered, discover
from tiphys.controlkit.objects import (
    condition,
    controller_of,
    copy,
    generation_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    parse_time,
    split_key,
    status_of,
    timestamp,
    uid_of,
)
from tiphys.controlkit.retry import TryAgain
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers.context import ControllerContext
from tiphys.runtime.tasks import run_all

DELETION_TIMEOUT = 120.0
"""Seconds for which a pod whose eviction was granted counts as disrupted, until it is being deleted."""
STALE_CONDITION_TIMEOUT = 120.0


class NoController(TryAgain):
    """A pod's controller cannot be found, or has no scale."""


# Decisions


@dataclass(frozen=True, slots=True)
class Expected:
    count: int
    healthy: int
    unmanaged: tuple[str, ...] = ()


def needs_scale(budget: Object) -> bool:
    """Whether the budget is relative to the replicas that the pods' controllers want."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def expected(budget: Object, pods: int, scale: int, unmanaged: Iterable[str] = ()) -> Expected:
    """``scale`` is the sum of the replicas that are wanted. Raises ``ScaleError``."""
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        limit = scaled_value(spec["maxUnavailable"], scale, round_up=True)
        return Expected(scale, max(scale - limit, 0), tuple(unmanaged))
    minimum = spec.get("minAvailable")
    if isinstance(minimum, int):
        return Expected(pods, minimum)
    if minimum is None:
        return Expected(0, 0)
    return Expected(scale, scaled_value(minimum, scale, round_up=True), tuple(unmanaged))


def disrupted(budget: Object, pods: Iterable[Object], now: float) -> tuple[dict[str, str], list[Object], float | None]:
    """Pods that are still to be deleted, those that should have been, and when to look again."""
    kept: dict[str, str] = {}
    overdue: list[Object] = []
    next_check: float | None = None
    known = status_of(budget).get("disruptedPods") or {}
    for pod in pods:
        granted = known.get(name_of(pod))
        if granted is None or is_deleting(pod):
            continue
        until = (parse_time(granted) or 0.0) + DELETION_TIMEOUT
        if until < now:
            overdue.append(pod)
        else:
            kept[name_of(pod)] = granted
            next_check = until if next_check is None else min(until, next_check)
    return kept, overdue, next_check


def count_healthy(pods: Iterable[Object], disrupted_pods: dict[str, str]) -> int:
    return sum(podkit.is_ready(pod) and not is_deleting(pod) and name_of(pod) not in disrupted_pods for pod in pods)


def budget_status(budget: Object, wanted: Expected, healthy: int, gone: dict[str, str], now: float) -> Object:
    """The status of a budget; ``gone`` maps pods being evicted to when they were marked, ``now`` is in seconds."""
    allowed = max(healthy - wanted.healthy, 0) if wanted.count > 0 else 0
    generation = generation_of(budget)
    status: Object = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": wanted.healthy,
        "expectedPods": wanted.count,
    }
    if gone:
        status["disruptedPods"] = gone
    conditions = copy(status_of(budget).get("conditions") or [])
    reason = "SufficientPods" if allowed > 0 else "InsufficientPods"
    value = "True" if allowed > 0 else "False"
    new = {"type": "DisruptionAllowed", "status": value, "reason": reason, "message": ""}
    set_condition(conditions, {**new, "observedGeneration": generation}, timestamp(now))
    return {**status, "conditions": conditions}


def stale_condition_in(pod: Object, now: float) -> float | None:
    """Seconds until a DisruptionTarget condition of a pod that stays is to be taken back; None if none exists."""
    disruption = condition(pod, "DisruptionTarget")
    if disruption is None or disruption["status"] != "True" or disruption.get("reason") == "TerminationByKubelet":
        return None
    if is_deleting(pod) or podkit.is_finished(pod):
        return None
    return max((parse_time(disruption.get("lastTransitionTime")) or 0.0) + STALE_CONDITION_TIMEOUT - now, 0.0)


class DisruptionController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("controllermanager")
        informers = context.informers
        self._budgets = informers.informer(POD_DISRUPTION_BUDGETS)
        self._pods = informers.informer(PODS)
        self._deployments = informers.informer(DEPLOYMENTS)
        self._replica_sets = informers.informer(REPLICA_SETS)
        self._replication = informers.informer(REPLICATION_CONTROLLERS)
        self._stateful_sets = informers.informer(STATEFUL_SETS)
        self._discovered = Discovered((), {})
        self._controller = context.controller("disruption", self.reconcile)
        self._stale = context.controller("stale_pod_disruption", self.reconcile_pod)
        self._controller.watches(self._budgets)
        self._controller.watches(self._pods, self._budgets_of)
        self._stale.handles(
            self._pods,
            Callbacks(added=self._pod_seen, updated=lambda old, new: self._pod_seen(new), deleted=lambda pod: None),
        )
        for informer in (self._deployments, self._replica_sets, self._replication, self._stateful_sets):
            self._controller.handles(informer, Callbacks(updated=self._scaled, deleted=lambda obj: None))

    async def run(self) -> None:
        await run_all(self._controller.run, self._stale.run)

    # Events

    def _budgets_of(self, pod: Object) -> list[str]:
        labels = labels_of(pod)
        keys = [
            key_of(budget)
            for budget in self._budgets.store.list(namespace_of(pod))
            if label_selector(budget["spec"].get("selector"))(labels)
        ]
        if len(keys) > 1:
            which, first = f'Pod "{namespace_of(pod)}"/"{name_of(pod)}"', split_key(keys[0])[1]
            message = f'{which} matches multiple PodDisruptionBudgets.  Chose "{first}" arbitrarily.'
            self._recorder.event(pod, "Warning", "MultiplePodDisruptionBudgets", message)
        return keys

    def _scaled(self, old: Object, new: Object) -> None:
        """What a relative budget is relative to may have changed."""
        if old["spec"].get("replicas") != new["spec"].get("replicas"):
            for budget in self._budgets.store.list(namespace_of(new)):
                if needs_scale(budget):
                    self._controller.queue.add(key_of(budget))

    def _pod_seen(self, pod: Object) -> None:
        wait = stale_condition_in(pod, self._clock.now())
        if wait is not None:
            self._stale.queue.add_after(key_of(pod), wait)

    # Budgets

    async def reconcile(self, key: str) -> Result | None:
        """Count the pods of a budget and write its status; returns when an overdue disruption is to be checked."""
        budget = self._budgets.store.get(*split_key(key))
        if budget is None:
            return None
        matches = label_selector(budget["spec"].get("selector"))
        pods = [pod for pod in self._pods.store.list(namespace_of(budget)) if matches(labels_of(pod))]
        if not pods:
            self._recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            wanted = await self._expected(budget, pods)
        except (NoController, ScaleError, errors.ApiError) as error:
            await self._fail_safe(budget, error.message if isinstance(error, errors.ApiError) else str(error))
            raise
        self._warn_unmanaged(budget, wanted)
        now = self._clock.now()
        gone, overdue, next_check = disrupted(budget, pods, now)
        for pod in overdue:
            namespace = namespace_of(budget)
            message = f"Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't"
            self._recorder.event(pod, "Warning", "NotDeleted", message)
        status = budget_status(budget, wanted, count_healthy(pods, gone), gone, now)
        if status != status_of(budget):
            await self._client.update_status(POD_DISRUPTION_BUDGETS, {**budget, "status": status})
        return None if next_check is None else Result(after=next_check - now)

    async def _expected(self, budget: Object, pods: Sequence[Object]) -> Expected:
        if not needs_scale(budget):
            return expected(budget, len(pods), 0)
        scales: dict[str, int] = {}
        unmanaged = []
        try:
            for pod in pods:
                reference = controller_of(pod)
                if reference is None:
                    unmanaged.append(name_of(pod))
                elif reference["uid"] not in scales:
                    uid, scale = await self._scale_of(reference, pod)
                    scales[uid] = scale
            return expected(budget, len(pods), sum(scales.values()), unmanaged)
        except (NoController, ScaleError, errors.ApiError) as error:
            why = error.message if isinstance(error, errors.ApiError) else str(error)
            message = f"Failed to calculate the number of expected pods: {why}"
            self._recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", message)
            raise

    def _warn_unmanaged(self, budget: Object, wanted: Expected) -> None:
        if wanted.unmanaged:
            selector = gotext.label_selector(budget["spec"].get("selector"))
            message = (
                f"Pods selected by this PodDisruptionBudget (selector: {selector}) were found to "
                "be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in "
                'undefined behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to an '
                "integer value."
            )
            self._recorder.event(budget, "Warning", "UnmanagedPods", message)

    async def _fail_safe(self, budget: Object, why: str) -> None:
        """Nothing may be evicted while nobody knows how many pods there must be."""
        status = copy(status_of(budget))
        status["disruptionsAllowed"] = 0
        status.setdefault("conditions", [])
        for field in ("currentHealthy", "desiredHealthy", "expectedPods"):
            status.setdefault(field, 0)
        new = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": why}
        observed = status.get("observedGeneration", 0)
        set_condition(status["conditions"], {**new, "observedGeneration": observed}, timestamp(self._clock.now()))
        if status != status_of(budget):
            await self._client.update_status(POD_DISRUPTION_BUDGETS, {**budget, "status": status})

    # Scales

    async def _scale_of(self, reference: Object, pod: Object) -> tuple[str, int]:
        """Uid and wanted replicas of what manages the pod."""
        namespace = namespace_of(pod)
        finders: dict[str, Callable[[str, Object], Awaitable[tuple[str, int] | None]]] = {
            "ReplicaSet": self._replica_set,
            "StatefulSet": self._stateful_set,
            "ReplicationController": self._replication_controller,
        }
        finder = finders.get(reference["kind"])
        scale = await finder(namespace, reference) if finder is not None else None
        if scale is None:
            scale = await self._scale_subresource(namespace, reference)
        if scale is None:
            raise NoController(f'found no controllers for pod "{name_of(pod)}"')
        return scale

    async def _replica_set(self, namespace: str, reference: Object) -> tuple[str, int] | None:
        rs = _same(self._replica_sets, namespace, reference)
        owner = controller_of(rs) if rs is not None else None
        if owner is not None and owner["kind"] == "Deployment":
            return _scale(_same(self._deployments, namespace, owner))
        return _scale(rs)

    async def _stateful_set(self, namespace: str, reference: Object) -> tuple[str, int] | None:
        return _scale(_same(self._stateful_sets, namespace, reference))

    async def _replication_controller(self, namespace: str, reference: Object) -> tuple[str, int] | None:
        return _scale(_same(self._replication, namespace, reference))

    async def _scale_subresource(self, namespace: str, reference: Object) -> tuple[str, int] | None:
        """Any other kind that has a scale: custom resources."""
        group = reference["apiVersion"].rpartition("/")[0]
        served = self._discovered.find(group, reference["kind"])
        if served is None:
            self._discovered = await discover(self._client)
            served = self._discovered.find(group, reference["kind"])
        if served is None:
            raise NoController(f'no matches for kind "{reference["kind"]}" in version "{reference["apiVersion"]}"')
        try:
            scale = await self._client.get(served.path, reference["name"], namespace, subresource="scale")
        except errors.NotFound as error:
            resource = served.path.plural + (f".{group}" if group else "")
            raise NoController(f"{resource} does not implement the scale subresource") from error
        return (uid_of(scale), int(scale["spec"].get("replicas") or 0)) if uid_of(scale) == reference["uid"] else None

    # Pods that were marked for disruption and stayed

    async def reconcile_pod(self, key: str) -> Result | None:
        """Set a pod's stale DisruptionTarget condition to False; returns when it will be stale, None if never."""
        pod = self._pods.store.get(*split_key(key))
        wait = stale_condition_in(pod, self._clock.now()) if pod is not None else None
        if pod is None or wait is None:
            return None
        if wait > 0:
            return Result(after=wait)
        wanted = copy(pod)
        disruption = condition(wanted, "DisruptionTarget")
        assert disruption is not None
        time = timestamp(self._clock.now())
        replaced: Object = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": time}
        if generation_of(pod) and "observedGeneration" in disruption:
            replaced["observedGeneration"] = generation_of(pod)
        disruption.clear()
        disruption.update(replaced)
        await self._client.update_status(PODS, wanted)
        return None


def _same(informer: Informer, namespace: str, reference: Object) -> Object | None:
    obj = informer.store.get(namespace, reference["name"])
    return obj if obj is not None and uid_of(obj) == reference["uid"] else None


def _scale(owner: Object | None) -> tuple[str, int] | None:
    if owner is None:
        return None
    replicas = owner["spec"].get("replicas")
    return uid_of(owner), 1 if replicas is None else int(replicas)
