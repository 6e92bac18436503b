"""The scheduler as a component: follows pods and nodes, and runs one pod's cycle after the other.

Decisions are made in ``cycle``; here is what surrounds them: events into the cache and the queue, the loop, and what
the outcome is sent to the API server. Source: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.api.meta.conditions import find_condition, transition_time
from tiphys.client import errors
from tiphys.client.informer import Informer, without_managed_fields
from tiphys.client.resources import (
    CSI_DRIVERS,
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    DEVICE_CLASSES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
    ResourcePath,
)
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.leaderelection import LeaderElector
from tiphys.controlkit.objects import timestamp
from tiphys.controlkit.serving.pages import component_pages, describe
from tiphys.controlkit.serving.port import open_port
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, after, whenever
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner, contain
from tiphys.scheduler import cycle
from tiphys.scheduler.config import SchedulerConfig
from tiphys.scheduler.cycle import Failure, Placement
from tiphys.scheduler.eventhandlers import NamespaceHandler, NodeHandler, ObjectHandler, PodHandler
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.podinfo import PodInfo, QueuedPod
from tiphys.scheduler.framework.runtime import Framework
from tiphys.scheduler.framework.status import Code, Status
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.messages import NO_NODES, event_note
from tiphys.scheduler.metrics import Figures
from tiphys.scheduler.plugins.registry import Factory, make_framework
from tiphys.scheduler.queue import QueuePlace, SchedulingQueue
from tiphys.scheduler.slim import slim_namespace, slim_node, slim_pod, slim_selecting
from tiphys.wire.health import Check, HealthHandler

log = logging.getLogger(__name__)

_FOLLOWED = {
    PERSISTENT_VOLUME_CLAIMS: Resource.PVC,
    PERSISTENT_VOLUMES: Resource.PV,
    STORAGE_CLASSES: Resource.STORAGE_CLASS,
    CSI_NODES: Resource.CSI_NODE,
    CSI_DRIVERS: Resource.CSI_DRIVER,
    CSI_STORAGE_CAPACITIES: Resource.CSI_STORAGE_CAPACITY,
    VOLUME_ATTACHMENTS: Resource.VOLUME_ATTACHMENT,
    RESOURCE_CLAIMS: Resource.RESOURCE_CLAIM,
    DEVICE_CLASSES: Resource.DEVICE_CLASS,
    RESOURCE_SLICES: Resource.RESOURCE_SLICE,
}
"""What plugins read besides pods and nodes."""

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"


class Scheduler:
    """``run`` schedules until it is cancelled. ``plugins`` adds users' own plugins to those that profiles name."""

    def __init__(
        self,
        *,
        config: SchedulerConfig,
        client: Client,
        clock: Clock,
        rng: random.Random | None = None,
        plugins: Mapping[str, Factory] | None = None,
    ) -> None:
        self._config, self._client, self._clock = config, client, clock
        self._rng = rng or random.Random()
        self._runner = Runner(clock, "scheduler ")
        self._recorder = EventRecorder(client, clock, config.profiles[0].name, api="events.k8s.io/v1", rng=self._rng)
        self.handle = Handle(client, clock, self._rng, self._recorder, self._runner)
        self.cache = self.handle.cache
        self._frameworks = {p.name: make_framework(p, self.handle, plugins) for p in config.profiles}
        self.queue = self._make_queue()
        self.figures = Figures(lambda: {place.value: self.queue.size(place) for place in QueuePlace})
        self.figures.sources += (client.calls, self.handle.claims_made)
        self._leading: Runner | None = None
        self._wake = asyncio.Event()
        self._bindings = asyncio.Semaphore(config.concurrent_bindings)
        self._informers = self._make_informers()

    def _make_queue(self) -> SchedulingQueue:
        any_node = Registration(ClusterEvent(Resource.NODE, Action.ADD))
        registrations: dict[str, tuple[Registration, ...]] = {_NO_NODES: (any_node,)}
        for framework in self._frameworks.values():
            registrations |= framework.registrations()
        first = next(iter(self._frameworks.values()))
        return SchedulingQueue(
            first.profile.queue_sort.key,
            lambda pod: self._frameworks[pod.scheduler_name].pre_enqueue(pod),
            registrations,
            initial_backoff=self._config.initial_backoff,
            max_backoff=self._config.max_backoff,
            leftover_after=self._config.leftover_after,
        )

    def _make_informers(self) -> dict[ResourcePath, Informer]:
        def informer(resource: ResourcePath, transform: Callable[[Any], Any], fields: str = "") -> Informer:
            made = Informer(
                self._client, resource, self._clock, field_selector=fields, transform=transform, rng=self._rng
            )
            self.handle.stores[resource.plural] = made.store
            return made

        informers = {
            NODES: informer(NODES, slim_node),
            PODS: informer(PODS, slim_pod, UNFINISHED),
            NAMESPACES: informer(NAMESPACES, slim_namespace),
            POD_DISRUPTION_BUDGETS: informer(POD_DISRUPTION_BUDGETS, without_managed_fields),
        }
        for resource in (SERVICES, REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS):
            informers[resource] = informer(resource, slim_selecting)
        for resource, kind in _FOLLOWED.items():
            informers[resource] = informer(resource, without_managed_fields)
            informers[resource].add_handler(ObjectHandler(kind, self._object_happened))
        informers[NODES].add_handler(NodeHandler(self.cache, self._happened))
        informers[NAMESPACES].add_handler(NamespaceHandler(self.cache))
        informers[PODS].add_handler(PodHandler(self))
        return informers

    async def run(self, ready: Ready = whenever) -> None:
        """``ready`` is called once every informer has its first list; one that waits for the lease is ready too."""
        checks = {"/healthz": self._stuck, "/livez": self._stuck, "/readyz": self._unready}
        async with (
            open_port(self._config.serving, self._pages(checks), self._clock),
            self._runner as runner,
        ):
            runner.supervise(self._recorder.run, "events")
            for informer in self._informers.values():
                runner.supervise(informer.run, f"informer {informer.resource.plural}")
            runner.spawn(after(ready, *(informer.wait_synced for informer in self._informers.values())), "readiness")
            if self._config.leader_election is None:
                await runner.supervise(self._lead, "scheduling")
            else:
                elector = LeaderElector(
                    self._config.leader_election,
                    self._client,
                    self._clock,
                    recorder=self._recorder,
                    rng=self._rng,
                )
                await elector.run(self._lead_supervised)

    def _pages(self, checks: Mapping[str, Check]) -> HealthHandler:
        serving = self._config.serving
        return component_pages(
            name="kube-scheduler",
            clock=self._clock,
            checks=checks,
            metrics=self.figures.expose,
            parts=lambda: ("ping", *(["leaderElection"] if self._config.leader_election else []), "informer-sync"),
            flags=serving.flags if serving else {},
            configuration=lambda: {"componentconfig": describe(self._config)},
        )

    async def _lead_supervised(self) -> None:
        async with Runner(self._clock, "scheduler ") as leading:
            self._leading = leading
            await leading.supervise(self._lead, "scheduling")

    def _unready(self) -> list[str]:
        if not all(informer.synced for informer in self._informers.values()):
            return ["informer-sync"]
        return list(self._troubles())

    def _stuck(self) -> list[str]:
        """Only what does not mend itself: whoever asks starts the scheduler again."""
        return list(self._troubles(MENDS_ITSELF_SECONDS))

    def _troubles(self, since: float = 0.0) -> dict[str, str]:
        return {**self._runner.troubles(since), **(self._leading.troubles(since) if self._leading else {})}

    async def _lead(self) -> None:
        for informer in self._informers.values():
            await informer.wait_synced()
        while True:
            await self._bindings.acquire()
            try:
                queued = await self._next()
            except BaseException:
                self._bindings.release()
                raise
            self._schedule_one(queued)
            await asyncio.sleep(0)  # what has arrived meanwhile comes first

    async def _next(self) -> QueuedPod:
        while True:
            now = self._clock.monotonic()
            self.queue.flush(now)
            if (queued := self.queue.pop(now)) is not None:
                return queued
            self._wake.clear()
            wakeup = self.queue.next_wakeup()
            try:
                async with asyncio.timeout(None if wakeup is None else max(wakeup - now, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # -- one pod ------------------------------------------------------------------------------------------------------

    def _schedule_one(self, queued: QueuedPod) -> None:
        """Choose a node, count the pod there, and start binding; or report why none fits."""
        pod, started = queued.pod, self._clock.monotonic()
        framework = self._frameworks[pod.scheduler_name]
        if pod.deleting or self.cache.get_pod(pod.uid) is not None:
            self._bindings.release()
            if pod.deleting:
                note = f"skip schedule deleting pod: {pod.namespace}/{pod.name}"
                self._event(framework, pod, "Warning", "FailedScheduling", note, "Scheduling")
            return
        outcome = self._decide(framework, queued)
        if isinstance(outcome, Placement):
            assumed = pod.assumed_on(outcome.node)
            work = self._bind(framework, queued, assumed, outcome, started)
            self._runner.spawn(work, f"binding {pod.namespace}/{pod.name}")
            return
        self._bindings.release()
        if not contain(
            f"saying why {pod.namespace}/{pod.name} waits", self._failed, framework, queued, outcome, started
        ):
            self._try_again(queued)

    def _decide(self, framework: Framework, queued: QueuedPod) -> Placement | Failure:
        """The node on which the pod counts from now on. What a plugin raises is this pod's failure alone."""
        try:
            started = self._clock.monotonic()
            outcome = cycle.schedule(framework, queued.pod, self._rng)
            self.figures.chosen(self._clock.monotonic() - started)
            if isinstance(outcome, Placement):
                return self._assume(framework, queued, outcome) or outcome
        except Exception as error:
            log.exception("scheduling pod %s/%s failed", *queued.pod.key)
            if self.cache.is_assumed(queued.uid) and (assumed := self.cache.get_pod(queued.uid)) is not None:
                self.cache.forget(assumed)
            return _error(error)
        return outcome

    def _try_again(self, queued: QueuedPod) -> None:
        """Nobody has said what the pod waits for: it is tried again after a while."""
        queued.unschedulable_plugins = set()
        self.queue.add_unschedulable(queued, self._clock.monotonic())
        self._wake.set()

    def _assume(self, framework: Framework, queued: QueuedPod, placement: Placement) -> Failure | None:
        assumed = queued.pod.assumed_on(placement.node)
        self.cache.assume(assumed)
        self.handle.nominator.remove(assumed.uid)
        status = framework.reserve(placement.state, assumed, placement.node)
        if status is None:
            status = framework.permit(placement.state, assumed, placement.node)
            if status is None or status.code is Code.WAIT:
                return None
        self._forget(framework, assumed, placement)
        return _rejected(placement.node, status)

    async def _bind(
        self, framework: Framework, queued: QueuedPod, pod: PodInfo, placement: Placement, started: float
    ) -> None:
        """Wait for permission, prepare, bind; if one fails, take everything back and try the pod again.

        A pod that waits for others (a permit, a volume) gives its place among the bindings back until it is bound.
        """
        state, node = placement.state, placement.node
        has_place = True
        try:
            if framework.waits(state, pod):
                self._bindings.release()
                has_place = False
            status = await framework.wait_on_permit(pod)
            if status is None:
                status = await framework.pre_bind(state, pod, node)
            if status is None:
                if not has_place:
                    has_place = await self._bindings.acquire()
                status = await framework.bind(state, pod, node)
        except Exception as error:
            log.exception("binding pod %s/%s failed", *pod.key)
            status = _error(error).status
        finally:
            if has_place:
                self._bindings.release()
        if status is not None:
            self._forget(framework, pod, placement)
            self._happened(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE), pod, None)
            self._failed(framework, queued, _rejected(node, status), started)
            return
        bound = self._clock.monotonic()
        self.figures.attempt("scheduled", framework.name, bound - started)
        if queued.first_attempt is not None:
            self.figures.scheduled(queued.attempts, bound - queued.first_attempt)
        note = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
        self._event(framework, pod, "Normal", "Scheduled", note, "Binding")
        framework.post_bind(state, pod, node)

    def _forget(self, framework: Framework, pod: PodInfo, placement: Placement) -> None:
        framework.unreserve(placement.state, pod, placement.node)
        self.cache.forget(pod)

    # -- failures -----------------------------------------------------------------------------------------------------

    def _failed(self, framework: Framework, queued: QueuedPod, failure: Failure, started: float) -> None:
        """Queue the pod again, and say in an event and in its status why it was not scheduled."""
        rejected = failure.status.rejected
        result = "unschedulable" if rejected else "error"
        self.figures.attempt(result, framework.name, self._clock.monotonic() - started)
        log.info("pod %s/%s is not scheduled: %s", *queued.pod.key, failure.message)
        current = self._informers[PODS].store.get(*queued.pod.key)
        if current is None or current["spec"].get("nodeName") or current["metadata"].get("uid") != queued.uid:
            return
        queued.pod = queued.pod.updated(current)
        queued.unschedulable_plugins = set(failure.plugins)
        queued.pending_plugins = set(failure.pending_plugins)
        if failure.message == NO_NODES:
            queued.unschedulable_plugins = {_NO_NODES}
        self.queue.add_unschedulable(queued, self._clock.monotonic())
        if failure.nominate is not None:
            self.handle.nominator.add(queued.pod, failure.nominate)
        elif queued.pod.nominated_node:
            self.handle.nominator.update(queued.pod)
        self._wake.set()
        self._event(framework, queued.pod, "Warning", "FailedScheduling", event_note(failure.message), "Scheduling")
        reason = "Unschedulable" if rejected else "SchedulerError"
        patch = self._status_patch(queued.pod, reason, failure)
        if patch:
            self._runner.spawn(self._patch_status(queued.pod, patch), f"status of {queued.pod.name}")

    def _status_patch(self, pod: PodInfo, reason: str, failure: Failure) -> dict[str, Any]:
        """What has to change in the pod's status; empty if it says so already."""
        patch: dict[str, Any] = {}
        if failure.nominate is not None and failure.nominate != pod.nominated_node:
            patch["nominatedNodeName"] = failure.nominate or None
        old = find_condition(pod.status.get("conditions"), "PodScheduled")
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": failure.message,
        }
        if "generation" in pod.obj["metadata"]:
            condition["observedGeneration"] = pod.obj["metadata"]["generation"]
        if old is None or any(old.get(key) != value for key, value in condition.items()):
            condition["lastProbeTime"] = None
            condition["lastTransitionTime"] = transition_time(old, "False", timestamp(self._clock.now()))
            patch["conditions"] = [condition]
        return patch

    async def _patch_status(self, pod: PodInfo, status: dict[str, Any]) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        try:
            await self._client.patch(PODS, pod.name, patch, pod.namespace, type=STRATEGIC_MERGE, subresource="status")
        except errors.NotFound:
            log.debug("pod %s/%s is gone", *pod.key)
        except (errors.ApiError, ConnectionError, TimeoutError) as problem:
            log.warning("cannot update the status of pod %s/%s: %s", *pod.key, problem)

    def _event(self, framework: Framework, pod: PodInfo, kind: Any, reason: str, note: str, action: str) -> None:
        self._recorder.named(framework.name).event(pod.obj, kind, reason, note, action=action)

    # -- what event handlers call -------------------------------------------------------------------------------------

    def responsible_for(self, pod: PodInfo) -> bool:
        return pod.scheduler_name in self._frameworks

    def enqueue(self, pod: PodInfo) -> None:
        """A pod that needs a node."""
        if pod.nominated_node:
            self.handle.nominator.update(pod)
        self.queue.add(pod, self._clock.monotonic())
        self._wake.set()

    def requeue(self, pod: PodInfo, events: list[ClusterEvent]) -> None:
        """A waiting pod's new version."""
        if self.cache.is_assumed(pod.uid):
            return
        self.handle.nominator.update(pod)
        self.queue.update(pod, events, self._clock.monotonic())
        self._wake.set()

    def dequeue(self, pod: PodInfo) -> None:
        """A pod that needs no node any more."""
        self._tell_watching()
        self.queue.delete(pod.uid)
        nominated = self.handle.nominator.node_of(pod.uid)
        self.handle.nominator.remove(pod.uid)
        for framework in self._frameworks.values():
            if (waiting := framework.waiting.get(pod.uid)) is not None:
                waiting.reject("", "removed")
        if nominated:
            self._happened(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE), pod, None)

    def _object_happened(self, event: ClusterEvent, old: Any, new: Any) -> None:
        self._tell_watching()
        self._happened(event, old, new)

    def _tell_watching(self) -> None:
        for event in self.handle.watching:
            event.set()

    def pod_happened(self, action: Action, old: PodInfo | None, new: PodInfo | None) -> None:
        self._happened(ClusterEvent(Resource.ASSIGNED_POD, action), old, new)

    def _happened(self, event: ClusterEvent, old: Any, new: Any) -> None:
        if self.queue.happened(event, old, new, self._clock.monotonic()):
            self._wake.set()


def _error(error: Exception) -> Failure:
    """A failure by what a plugin raised: the pod is tried again. Its event has no name of a Python class."""
    text = str(error) or "a plugin failed"
    return Failure(Status(Code.ERROR, (text,)), text)


_NO_NODES = "no nodes"
"""Stands for the plugin that rejects a pod if there are no nodes; what helps is any node."""


def _rejected(node: str, status: Status) -> Failure:
    """A failure after a node was chosen: a rejection reads like one of a cluster with that node alone."""
    if not status.rejected:
        return Failure(status, status.message)
    message = f"0/1 nodes are available: {', '.join(f'1 {reason}' for reason in sorted(status.reasons))}."
    return Failure(status, message, frozenset({status.plugin} if status.plugin else ()))
