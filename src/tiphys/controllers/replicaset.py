"""The ReplicaSet controller, which also serves ReplicationControllers: keeps the wanted number of pods.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, ResourcePath
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.controller import Result
from tiphys.controlkit.expectations import Expectations
from tiphys.controlkit.objects import (
    controller_of,
    controller_reference,
    find_condition,
    generation_of,
    is_controlled_by,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    status_of,
    timestamp,
    uid_of,
)
from tiphys.controlkit.podcontrol import PodControl, namespace_is_terminating, pod_from_template, slow_start
from tiphys.controlkit.selectors import Predicate, label_selector, set_selector
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.ownedpods import OwnedPodHandler

log = logging.getLogger(__name__)

BURST = 500
"""Pods that one reconciliation creates or deletes at most."""

FAILURE = "ReplicaFailure"
_OWNER_INDEX = "controllerUID"


@dataclass(frozen=True, slots=True)
class ReplicaKind:
    """What differs between ReplicaSets and ReplicationControllers."""

    resource: ResourcePath
    kind: str
    queue: str
    component: str
    label_selector: bool
    counts_terminating: bool

    def selector(self, obj: Object) -> Predicate:
        selector = obj["spec"].get("selector")
        return label_selector(selector) if self.label_selector else set_selector(selector)


REPLICA_SET = ReplicaKind(
    REPLICA_SETS, "ReplicaSet", "replicaset", "replicaset-controller", label_selector=True, counts_terminating=True
)
REPLICATION_CONTROLLER = ReplicaKind(
    REPLICATION_CONTROLLERS,
    "ReplicationController",
    "replicationmanager",
    "replication-controller",
    label_selector=False,
    counts_terminating=False,
)


# Decisions


def wanted_replicas(rs: Object) -> int:
    replicas = rs["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def calculate_status(
    rs: Object, active: Sequence[Object], terminating: Sequence[Object] | None, failure: Exception | None, now: float
) -> Object:
    """The status to write. ``terminating`` is None if the kind does not count such pods."""
    labels = set_selector((rs["spec"]["template"].get("metadata") or {}).get("labels"))
    min_ready = int(rs["spec"].get("minReadySeconds") or 0)
    ready = [pod for pod in active if podkit.is_ready(pod)]
    status: Object = {"replicas": len(active)}
    numbers = {
        "fullyLabeledReplicas": sum(labels(labels_of(pod)) for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": sum(podkit.is_available(pod, min_ready, now) for pod in ready),
        "observedGeneration": generation_of(rs),
    }
    status |= {field: number for field, number in numbers.items() if number}
    if terminating is not None:
        status["terminatingReplicas"] = len(terminating)
    conditions = _conditions(rs, len(active), failure, now)
    if conditions:
        status["conditions"] = conditions
    return status


def _conditions(rs: Object, active: int, failure: Exception | None, now: float) -> list[Object]:
    current = status_of(rs).get("conditions") or []
    if failure is None:
        return [condition for condition in current if condition["type"] != FAILURE]
    if find_condition(current, FAILURE) is not None:
        return list(current)
    reason = "FailedCreate" if active < wanted_replicas(rs) else "FailedDelete"
    message = failure.message if isinstance(failure, errors.ApiError) else str(failure)
    added = {"type": FAILURE, "status": "True", "reason": reason, "message": message}
    return [*current, {**added, "lastTransitionTime": timestamp(now)}]


def pods_to_delete(active: Sequence[Object], related: Sequence[Object], count: int, now: float) -> list[Object]:
    """The ``count`` pods that are missed least."""
    if count >= len(active):
        return list(active)
    return podkit.sort_for_deletion(active, related, now)[:count]


class ReplicaSetController:
    """Reconciles one of the two kinds."""

    def __init__(self, context: ControllerContext, kind: ReplicaKind = REPLICA_SET, workers: int | None = None) -> None:
        self._kind = kind
        self._client, self._clock = context.client, context.clock
        self._control = PodControl(context.client, context.recorder.named(kind.component))
        self._expectations = Expectations(context.clock)
        self._sets = context.informers.informer(kind.resource)
        self._pods = context.informers.informer(PODS)
        podkit.index_by_owner(self._pods)
        if not self._sets.store.has_index(_OWNER_INDEX):
            self._sets.add_index(_OWNER_INDEX, _owner_uid)
        workers = workers or context.config.concurrent_replicaset_syncs
        self._controller = context.controller(kind.queue, self.reconcile, workers=workers)
        self._controller.watches(self._sets)
        handler = OwnedPodHandler(
            kind=kind.kind,
            owners=self._sets,
            queue=self._controller.queue,
            expectations=self._expectations,
            selector=kind.selector,
        )
        self._controller.handles(self._pods, handler)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result | None:
        """Create or delete pods to reach the wanted number, and write the status. Raises what managing pods raised."""
        rs = self._sets.store.get(*split_key(key))
        if rs is None:
            self._expectations.forget(key)
            return None
        may_manage = self._expectations.satisfied(key)
        matches = self._kind.selector(rs)
        every = podkit.owned_pods(self._pods, rs, self._kind.kind, orphans=True)
        claimer = Claimer(self._client, Owner(self._kind.resource, self._kind.kind, rs), PODS)
        active = await claimer.claim(filter(podkit.is_active, every), lambda pod: matches(labels_of(pod)))
        failure = None
        if may_manage and not is_deleting(rs):
            failure = await self._manage(key, rs, active)
        terminating = None
        if self._kind.counts_terminating:
            terminating = [
                pod
                for pod in every
                if podkit.is_terminating(pod) and is_controlled_by(pod, rs) and matches(labels_of(pod))
            ]
        now = self._clock.now()
        status = calculate_status(rs, active, terminating, failure, now)
        if status != status_of(rs):
            await self._write_status(rs, status)
        if failure is not None:
            raise failure
        return self._next_check(rs, status, active, now)

    def _next_check(self, rs: Object, status: Object, active: Sequence[Object], now: float) -> Result | None:
        min_ready = int(rs["spec"].get("minReadySeconds") or 0)
        if min_ready == 0 or status.get("readyReplicas") == status.get("availableReplicas"):
            return None
        wait = podkit.next_availability_check(active, min_ready, now)
        return Result(after=min_ready if wait is None else wait)

    async def _manage(self, key: str, rs: Object, active: Sequence[Object]) -> Exception | None:
        """Create or delete pods; what it failed with."""
        missing = wanted_replicas(rs) - len(active)
        if missing > 0:
            return await self._create(key, rs, min(missing, BURST))
        if missing < 0:
            return await self._delete(key, rs, active, min(-missing, BURST))
        return None

    async def _create(self, key: str, rs: Object, count: int) -> Exception | None:
        reference = controller_reference(rs, self._kind.resource.api_version, self._kind.kind)
        pod = pod_from_template(rs["spec"]["template"], rs, reference)
        self._expectations.expect_creations(key, count)

        async def create(_: int) -> None:
            try:
                await self._control.create(namespace_of(rs), pod, rs)
            except errors.ApiError as error:
                if not namespace_is_terminating(error):
                    raise
                self._expectations.creation_observed(key)

        made, failure = await slow_start(count, create)
        self._expectations.creation_observed(key, count - made)
        return failure

    async def _delete(self, key: str, rs: Object, active: Sequence[Object], count: int) -> Exception | None:
        doomed = pods_to_delete(active, self._related(rs), count, self._clock.now())
        self._expectations.expect_deletions(key, map(key_of, doomed))

        async def delete(pod: Object) -> None:
            try:
                await self._control.delete(namespace_of(rs), name_of(pod), rs)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                self._expectations.deletion_observed(key, key_of(pod))
                if not isinstance(error, errors.NotFound):
                    raise

        results = await asyncio.gather(*map(delete, doomed), return_exceptions=True)
        return next((result for result in results if isinstance(result, Exception)), None)

    def _related(self, rs: Object) -> list[Object]:
        """Pods of all ReplicaSets of the same Deployment."""
        reference = controller_of(rs)
        if reference is None:
            return []
        pods: dict[str, Object] = {}
        for other in self._sets.store.by_index(_OWNER_INDEX, reference["uid"]):
            matches = self._kind.selector(other)
            pods |= {uid_of(pod): pod for pod in self._pods.store.list(namespace_of(other)) if matches(labels_of(pod))}
        return list(pods.values())

    async def _write_status(self, rs: Object, status: Object) -> None:
        wanted = {**rs, "status": status}
        try:
            await self._client.update_status(self._kind.resource, wanted)
        except errors.Conflict:
            fresh = await self._client.get(self._kind.resource, name_of(rs), namespace_of(rs))
            await self._client.update_status(self._kind.resource, {**fresh, "status": status})
        except errors.NotFound:
            log.debug("%s %s is gone", self._kind.kind, key_of(rs))


def _owner_uid(obj: Object) -> tuple[str, ...]:
    reference = controller_of(obj)
    return (reference["uid"],) if reference is not None else ()


class ReplicationController(ReplicaSetController):
    """The same for ReplicationControllers."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context, REPLICATION_CONTROLLER, context.config.concurrent_rc_syncs)
