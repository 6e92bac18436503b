"""The stateful set controller's I/O.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.consistency import Consistency
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
)
from tiphys.controlkit.podcontrol import slow_start
from tiphys.controlkit.retry import TryAgain
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers import history
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.ownedpods import OwnedPodHandler
from tiphys.controllers.statefulset import identity
from tiphys.controllers.statefulset import plan as planning
from tiphys.controllers.statefulset.podcontrol import StatefulPodControl
from tiphys.controllers.statefulset.revisions import CurrentRevisions, Revisions


class StatefulSetController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._sets = context.informers.informer(STATEFUL_SETS)
        self._pods = context.informers.informer(PODS)
        self._claims = context.informers.informer(PERSISTENT_VOLUME_CLAIMS)
        history_informer = context.informers.informer(CONTROLLER_REVISIONS)
        podkit.index_by_owner(self._pods)
        self._consistency = Consistency(context.clock)
        self._revisions = Revisions(context.client, history_informer)
        recorder = context.recorder.named("statefulset-controller")
        self._control = StatefulPodControl(
            client=context.client,
            recorder=recorder,
            pods=self._pods,
            claims=self._claims,
            consistency=self._consistency,
        )
        workers = context.config.concurrent_statefulset_syncs
        self._controller = context.controller("statefulset", self.reconcile, workers=workers)
        self._controller.watches(self._sets)
        self._controller.handles(
            self._pods,
            OwnedPodHandler(
                kind="StatefulSet",
                owners=self._sets,
                queue=self._controller.queue,
                expectations=None,
                selector=_selector,
            ),
        )
        self._controller.reads(self._claims)
        self._controller.reads(history_informer)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result | None:
        """Bring the pods of a stateful set a step nearer, write the status, and drop unused revisions."""
        stateful_set = self._sets.store.get(*split_key(key))
        if stateful_set is None:
            self._consistency.forget(key)
            return None
        if not self._consistency.ready(key):
            return Result(retry=True)
        pods = await self._claim(stateful_set)
        revisions = await self._revisions.find(stateful_set)
        sync = _Sync(self._control, stateful_set, revisions, self._clock.now())
        failure = None
        try:
            await sync.run(pods)
        except (errors.ApiError, ConnectionError, TimeoutError, TryAgain) as error:
            failure = error
        finally:
            await self._write_status(stateful_set, sync)
            stale = planning.to_forget(stateful_set, revisions.known, pods, *revisions.names)
            await self._revisions.forget(stale)
        if failure is not None:
            raise failure
        return self._next_check(stateful_set, sync, pods)

    async def _claim(self, stateful_set: Object) -> list[Object]:
        matches = label_selector(stateful_set["spec"]["selector"])
        every = podkit.owned_pods(self._pods, stateful_set, "StatefulSet", orphans=True)
        claimer = Claimer(self._client, Owner(STATEFUL_SETS, "StatefulSet", stateful_set), PODS)
        name = name_of(stateful_set)
        return await claimer.claim(
            every, lambda pod: matches(labels_of(pod)) and identity.parent_and_ordinal(pod)[0] == name
        )

    async def _write_status(self, stateful_set: Object, sync: _Sync) -> None:
        status = planning.status_for(stateful_set, sync.numbers, sync.revisions.names, sync.revisions.collision_count)
        if not planning.is_stale(stateful_set, status):
            return
        try:
            written = await self._client.update_status(STATEFUL_SETS, {**stateful_set, "status": status})
        except errors.Conflict:
            live = await self._client.get(STATEFUL_SETS, name_of(stateful_set), namespace_of(stateful_set))
            written = await self._client.update_status(STATEFUL_SETS, {**live, "status": status})
        self._consistency.wrote(key_of(stateful_set), self._sets, written)

    def _next_check(self, stateful_set: Object, sync: _Sync, pods: Sequence[Object]) -> Result | None:
        min_ready = planning.min_ready(stateful_set)
        if not min_ready or sync.numbers["readyReplicas"] == sync.numbers["availableReplicas"]:
            return None
        wait = podkit.next_availability_check(pods, min_ready, self._clock.now())
        return Result(after=min_ready if wait is None else wait)


class _Sync:
    """One reconciliation. ``numbers`` are for the status, also if it ends early."""

    def __init__(
        self, control: StatefulPodControl, stateful_set: Object, revisions: CurrentRevisions, now: float
    ) -> None:
        self._control, self._set, self._now = control, stateful_set, now
        self.revisions = revisions
        self._update = history.applied(stateful_set, revisions.update)
        self.numbers: dict[str, int] = {}

    async def run(self, pods: Sequence[Object]) -> None:
        """One pass over the pods in order: keep, scale down, then update; stops at the first that must wait."""
        self._count(pods)
        if is_deleting(self._set):
            return
        current = history.applied(self._set, self.revisions.current)
        layout = planning.lay_out(self._set, current, self._update, self.revisions.names, pods)
        unhealthy = planning.first_unavailable(self._set, layout, self._now)
        self._count([*layout.replicas, *layout.condemned])
        if await self._for_all(layout.replicas, self._keep):
            return
        if await self._for_all(layout.condemned, self._fix_claims):
            return

        async def remove(pod: Object) -> bool:
            delete, wait = planning.may_remove(self._set, pod, unhealthy, self._now)
            if delete:
                await self._control.delete(self._set, pod)
            return wait

        if await self._for_all(layout.condemned, remove):
            return
        update_name = name_of(self.revisions.update)
        pod = planning.to_update(self._set, layout.replicas, update_name, self._now)
        if pod is not None:
            await self._control.delete(self._set, pod)
            self.numbers["currentReplicas"] -= 1

    def _count(self, pods: Sequence[Object]) -> None:
        self.numbers = planning.counts(self._set, self.revisions.names, pods, self._now)

    async def _for_all(self, pods: Sequence[Object], action: Callable[[Object], Awaitable[bool]]) -> bool:
        """In order until ``action`` says to wait; or, with parallel management, all at once."""
        if not planning.is_parallel(self._set):
            for pod in pods:
                if await action(pod):
                    return True
            return False

        async def one(number: int) -> None:
            await action(pods[number])

        _, failure = await slow_start(len(pods), one)
        if failure is not None:
            raise failure
        return False

    async def _keep(self, pod: Object) -> bool:
        """Bring one replica nearer to what it is to be; whether to wait for it before the next."""
        ordered = not planning.is_parallel(self._set)
        if podkit.is_finished(pod):
            if not is_deleting(pod):
                await self._control.delete(self._set, pod)
            return True
        if not identity.is_created(pod):
            if self._control.claim_is_stale(self._set, pod):
                return True
            await self._control.create(self._set, pod)
            if ordered:
                return True
        if podkit.phase_of(pod) == "Pending":
            await self._control.create_claims(self._set, pod)
            await self._control.update_claims(self._set, pod)
        if ordered and self._waits_for(pod):
            return True
        matching = identity.identity_matches(self._set, pod) and identity.storage_matches(self._set, pod)
        if identity.is_created(pod) and not (matching and self._control.claims_are_current(self._update, pod)):
            await self._control.mend(self._update, pod)
        return False

    def _waits_for(self, pod: Object) -> bool:
        if is_deleting(pod) or not identity.is_running_and_ready(pod):
            return True
        return not podkit.is_available(pod, planning.min_ready(self._set), self._now)

    async def _fix_claims(self, pod: Object) -> bool:
        if not self._control.claims_are_current(self._update, pod):
            await self._control.update_claims(self._update, pod)
        return False


def _selector(stateful_set: Object) -> Object | None:
    selector: Object | None = stateful_set["spec"].get("selector")
    return selector
