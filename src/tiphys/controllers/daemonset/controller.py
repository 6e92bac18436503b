"""The daemon set controller's I/O.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.controller import Result
from tiphys.controlkit.expectations import Expectations
from tiphys.controlkit.objects import (
    controller_reference,
    generation_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    status_of,
    uid_of,
)
from tiphys.controlkit.podcontrol import PodControl, namespace_is_terminating, pod_from_template, slow_start
from tiphys.controlkit.selectors import is_empty, label_selector
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.daemonset import plan as planning
from tiphys.controllers.daemonset.plan import PodPlan
from tiphys.controllers.daemonset.revisions import RevisionHandler, Revisions
from tiphys.controllers.history import HASH_LABEL
from tiphys.controllers.ownedpods import OwnedPodHandler
from tiphys.runtime.backoff import KeyedBackoff

BURST = 250

FIRST_REPLACEMENT, SLOWEST_REPLACEMENT = 1.0, 900.0
"""Seconds between failed pods of a node."""


class DaemonSetController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("daemonset-controller")
        self._control = PodControl(context.client, self._recorder)
        self._expectations = Expectations(context.clock)
        self._backoff = KeyedBackoff(FIRST_REPLACEMENT, SLOWEST_REPLACEMENT)
        self._sets = context.informers.informer(DAEMON_SETS)
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        self._history = context.informers.informer(CONTROLLER_REVISIONS)
        podkit.index_by_owner(self._pods)
        self._revisions = Revisions(context.client, self._history)
        workers = context.config.concurrent_daemonset_syncs
        self._controller = context.controller("daemonset", self.reconcile, workers=workers)
        queue = self._controller.queue
        self._controller.watches(self._sets)
        handler = OwnedPodHandler(
            kind="DaemonSet", owners=self._sets, queue=queue, expectations=self._expectations, selector=_selector
        )
        self._controller.handles(self._pods, handler)
        revisions = RevisionHandler(
            kind="DaemonSet", owners=self._sets, queue=queue, expectations=None, selector=_selector
        )
        self._controller.handles(self._history, revisions)
        self._controller.handles(
            self._nodes,
            Callbacks(added=self._node_added, updated=self._node_updated, deleted=lambda node: None),
        )

    async def run(self) -> None:
        await self._controller.run()

    # Events

    def _node_added(self, node: Object) -> None:
        for daemon_set in self._sets.store.list():
            run, stay = planning.should_run(node, daemon_set)
            pods = podkit.owned_pods(self._pods, daemon_set, "DaemonSet", orphans=False)
            scheduled = any(planning.target_node(pod) == name_of(node) for pod in pods)
            misscheduled = scheduled and status_of(daemon_set).get("numberMisscheduled")
            if (run and not scheduled) or (scheduled and not stay) or misscheduled:
                self._controller.queue.add(key_of(daemon_set))

    def _node_updated(self, old: Object, new: Object) -> None:
        if labels_of(old) != labels_of(new) or old["spec"].get("taints") != new["spec"].get("taints"):
            self._node_added(new)

    # Reconciling

    async def reconcile(self, key: str) -> Result | None:
        """Bring the pods of one daemon set in line with the nodes, and write its status.

        Raises what writing pods raised.
        """
        daemon_set = self._sets.store.get(*split_key(key))
        if daemon_set is None:
            self._expectations.forget(key)
            return None
        if is_empty(daemon_set["spec"].get("selector")):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.event(daemon_set, "Warning", "SelectingAll", message)
            return None
        if is_deleting(daemon_set):
            return None
        # Before the pods are read: what is observed after that, the pods that were read do not show.
        may_manage = self._expectations.satisfied(key)
        pods = await self._claim(daemon_set)
        current, old = await self._revisions.construct(daemon_set, pods)
        digest = labels_of(current).get(HASH_LABEL, "")
        nodes = self._nodes.store.list()
        if not may_manage:
            return await self._update_status(daemon_set, nodes, pods, digest, observed=False)
        failure = await self._update(key, daemon_set, nodes, pods, digest)
        if failure is None:
            await self._revisions.clean_up(daemon_set, old, pods)
        result = await self._update_status(daemon_set, nodes, pods, digest, observed=True)
        if failure is not None:
            raise failure
        return result

    async def _claim(self, daemon_set: Object) -> list[Object]:
        matches = label_selector(daemon_set["spec"]["selector"])
        every = podkit.owned_pods(self._pods, daemon_set, "DaemonSet", orphans=True)
        claimer = Claimer(self._client, Owner(DAEMON_SETS, "DaemonSet", daemon_set), PODS)
        return await claimer.claim(every, lambda pod: matches(labels_of(pod)))

    async def _update(
        self, key: str, daemon_set: Object, nodes: Sequence[Object], pods: Sequence[Object], digest: str
    ) -> Exception | None:
        """Manage pods, then update those of former templates; what it failed with."""
        by_node = planning.by_node(pods)
        prefix = f"{uid_of(daemon_set)}/{status_of(daemon_set).get('observedGeneration', 0)}/"

        def may_replace(node: str) -> bool:
            """A failed pod is replaced at once, the next one on the node after a while."""
            pod_key, moment = prefix + node, self._clock.monotonic()
            if waits := self._backoff.waits(pod_key, moment):
                self._controller.queue.add_after(key, self._backoff.delay(pod_key))
            else:
                self._backoff.next(pod_key, moment, moment)
            return not waits

        now = self._clock.now()
        plan = planning.manage(daemon_set, nodes, by_node, digest, now, may_replace)
        self._report_ended(daemon_set, plan)
        failure = await self._carry_out(key, daemon_set, plan, digest)
        if failure is None and planning.is_rolling(daemon_set) and self._expectations.satisfied(key):
            if plan.create or plan.delete:
                by_node = planning.by_node(await self._claim(daemon_set))
            plan = planning.rolling_update(daemon_set, nodes, by_node, digest, now)
            failure = await self._carry_out(key, daemon_set, plan, digest)
        return failure

    def _report_ended(self, daemon_set: Object, plan: PodPlan) -> None:
        for pod, node in plan.ended:
            place = f"{namespace_of(pod)}/{name_of(pod)} on node {node}"
            if podkit.phase_of(pod) == "Failed":
                message = f"Found failed daemon pod {place}, will try to kill it"
                self._recorder.event(daemon_set, "Warning", "FailedDaemonPod", message)
            else:
                message = f"Found succeeded daemon pod {place}, will try to delete it"
                self._recorder.event(daemon_set, "Normal", "SucceededDaemonPod", message)

    async def _carry_out(self, key: str, daemon_set: Object, plan: PodPlan, digest: str) -> Exception | None:
        """Create and delete pods, at most ``BURST`` of each; returns the first failure."""
        create, delete = plan.create[:BURST], plan.delete[:BURST]
        if not create and not delete:
            return None
        namespace = namespace_of(daemon_set)
        self._expectations.expect(key, len(create), [f"{namespace}/{name}" for name in delete])
        template = planning.pod_template(daemon_set, digest)
        reference = controller_reference(daemon_set, "apps/v1", "DaemonSet")

        async def create_one(number: int) -> None:
            pod = pod_from_template(planning.for_node(template, create[number]), daemon_set, reference)
            try:
                await self._control.create(namespace, pod, daemon_set)
            except errors.ApiError as error:
                if not namespace_is_terminating(error):
                    raise
                self._expectations.creation_observed(key)

        async def delete_one(name: str) -> None:
            try:
                await self._control.delete(namespace, name, daemon_set)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                self._expectations.deletion_observed(key, f"{namespace}/{name}")
                if not isinstance(error, errors.NotFound):
                    raise

        made, failure = await slow_start(len(create), create_one)
        self._expectations.creation_observed(key, len(create) - made)
        results = await asyncio.gather(*map(delete_one, delete), return_exceptions=True)
        return failure or next((result for result in results if isinstance(result, Exception)), None)

    async def _update_status(
        self, daemon_set: Object, nodes: Sequence[Object], pods: Sequence[Object], digest: str, *, observed: bool
    ) -> Result | None:
        now = self._clock.now()
        numbers = planning.calculate_status(daemon_set, nodes, planning.by_node(pods), digest, now)
        current = status_of(daemon_set)
        stale = any((current.get(field) or 0) != number for field, number in numbers.items())
        if stale or (current.get("observedGeneration") or 0) < generation_of(daemon_set):
            await self._write_status(daemon_set, numbers, observed=observed)
        min_ready = planning.min_ready(daemon_set)
        if min_ready and numbers["numberReady"] != numbers["numberAvailable"]:
            wait = podkit.next_availability_check(pods, min_ready, now)
            return Result(after=min_ready if wait is None else wait)
        return None

    async def _write_status(self, daemon_set: Object, numbers: dict[str, int], *, observed: bool) -> None:
        added: Object = dict(numbers)
        if observed:
            added["observedGeneration"] = generation_of(daemon_set)
        try:
            await self._client.update_status(DAEMON_SETS, {**daemon_set, "status": {**status_of(daemon_set), **added}})
        except errors.Conflict:
            live = await self._client.get(DAEMON_SETS, name_of(daemon_set), namespace_of(daemon_set))
            await self._client.update_status(DAEMON_SETS, {**live, "status": {**status_of(live), **added}})


def _selector(daemon_set: Object) -> Object | None:
    selector: Object | None = daemon_set["spec"].get("selector")
    return selector
