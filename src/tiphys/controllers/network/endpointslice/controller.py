"""The endpoint slice controller's I/O: reads a Service, its pods and slices, and carries out the plan.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

import asyncio

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    split_key,
)
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controlkit.queue import RateLimiter
from tiphys.controlkit.retry import TryAgain
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.network import endpointscommon as common
from tiphys.controllers.network.endpointslice.plan import (
    CONTROLLER,
    MANAGED_BY,
    SERVICE_NAME,
    SlicePlan,
    plan,
    set_trigger_time,
)
from tiphys.controllers.network.endpointslice.tracker import SliceTracker, service_key
from tiphys.controllers.network.endpointslice.zones import ZoneFollower

MAX_RETRIES = 15
FOREIGN_CHANGE_DELAY = 1.0
"""Seconds before a change of a slice by somebody else is undone, so that two who disagree do not spin."""

_BY_SERVICE = "service"


class SkippedPods(TryAgain):
    """Some pods could not be made endpoints; the others were."""


class EndpointSliceController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._config = context.client, context.config
        self._recorder = context.recorder.named("endpoint-slice-controller")
        self._services = context.informers.informer(SERVICES)
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        self._slices = context.informers.informer(ENDPOINT_SLICES)
        if not self._slices.store.has_index(_BY_SERVICE):
            self._slices.add_index(_BY_SERVICE, lambda endpoint_slice: (service_key(endpoint_slice),))
        self._tracker, self._triggers = SliceTracker(), common.TriggerTimes()
        limiter: RateLimiter[str] = RateLimiter(context.clock, base=1.0)
        self._controller = context.controller(
            "endpoint_slice",
            self.reconcile,
            workers=context.config.concurrent_service_endpoint_syncs,
            max_retries=MAX_RETRIES,
            limiter=limiter,
        )
        self._queue = self._controller.queue
        self._controller.watches(self._services)
        period = context.config.endpoint_slice_updates_batch_period
        self._foreign_change_delay = max(FOREIGN_CHANGE_DELAY, period)
        self._pods_of_services = common.PodsOfServices(self._services, self._queue, period)
        podkit.index_by_node(self._pods)
        self._controller.handles(self._pods, self._pods_of_services)
        self._controller.handles(
            self._slices, Callbacks(added=self._slice_seen, updated=self._slice_changed, deleted=self._slice_gone)
        )
        self._controller.handles(self._nodes, Callbacks(added=self._node_added, updated=_nothing, deleted=_nothing))
        self._zones = ZoneFollower(context, self._nodes, self._queue)

    async def run(self) -> None:
        await asyncio.gather(self._controller.run(), self._zones.run())

    # Events

    def _slice_seen(self, endpoint_slice: Object) -> None:
        if _is_ours(endpoint_slice) and self._tracker.is_news(endpoint_slice):
            self._queue.add_after(service_key(endpoint_slice), self._foreign_change_delay)

    def _slice_changed(self, old: Object, new: Object) -> None:
        if labels_of(old).get(SERVICE_NAME) != labels_of(new).get(SERVICE_NAME):
            for endpoint_slice in (old, new):
                self._queue.add_after(service_key(endpoint_slice), self._foreign_change_delay)
        elif _is_ours(old) != _is_ours(new):
            self._queue.add_after(service_key(new), self._foreign_change_delay)
        else:
            self._slice_seen(new)

    def _slice_gone(self, endpoint_slice: Object) -> None:
        if _is_ours(endpoint_slice) and not self._tracker.deletion_was_ours(endpoint_slice):
            self._queue.add_after(service_key(endpoint_slice), self._foreign_change_delay)

    def _node_added(self, node: Object) -> None:
        """Pods that were left out for want of their node can be endpoints now."""
        for pod in self._pods.store.by_index(podkit.NODE_INDEX, name_of(node)):
            self._pods_of_services.added(pod, initial=False)

    # Reconciling

    async def reconcile(self, key: str) -> Result | None:
        """Bring the slices of a Service in line with its pods. Raises ``SkippedPods`` for pods on unknown nodes."""
        service = self._services.store.get(*split_key(key))
        if service is None:
            self._triggers.forget(key)
            self._tracker.forget(key)
        if service is None or service["spec"].get("type") == "ExternalName" or service["spec"].get("selector") is None:
            self._zones.note(key, {})
            return None
        slices = [
            endpoint_slice
            for endpoint_slice in self._slices.store.by_index(_BY_SERVICE, key)
            if _is_ours(endpoint_slice) and not is_deleting(endpoint_slice)
        ]
        if self._tracker.is_stale(key, slices):
            return Result(retry=True)
        pods = common.selected_pods(self._pods, service)
        trigger = self._triggers.compute(service, pods)
        per_slice, hinting = self._config.max_endpoints_per_slice, self._zones.hinting(key)
        planned, skipped = plan(service, pods, slices, self._node, per_slice, hinting)
        self._zones.note(key, planned.hinted)
        for notice in planned.notices:
            self._recorder.event(service, notice.type, notice.reason, notice.message)
        try:
            await self._carry_out(service, planned, trigger)
            if skipped:
                raise SkippedPods("; ".join(skipped))
        except (errors.ApiError, SkippedPods) as error:
            why = error.message if isinstance(error, errors.ApiError) else str(error)
            message = f"Error updating Endpoint Slices for Service {key}: {why}"
            self._recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
            raise
        return None

    def _node(self, name: str) -> Object | None:
        return self._nodes.store.get("", name)

    async def _carry_out(self, service: Object, planned: SlicePlan, trigger: str | None) -> None:
        for endpoint_slice in planned.create if not is_deleting(service) else ():
            set_trigger_time(endpoint_slice, trigger)
            try:
                self._tracker.wrote(await self._client.create(ENDPOINT_SLICES, endpoint_slice))
            except errors.ApiError as error:
                if namespace_is_terminating(error):
                    return
                raise
        for endpoint_slice in planned.update:
            set_trigger_time(endpoint_slice, trigger)
            self._tracker.wrote(await self._client.update(ENDPOINT_SLICES, endpoint_slice))
        for endpoint_slice in planned.delete:
            await self._client.delete(ENDPOINT_SLICES, name_of(endpoint_slice), namespace_of(endpoint_slice))
            self._tracker.expect_deletion(endpoint_slice)


def _is_ours(endpoint_slice: Object) -> bool:
    return labels_of(endpoint_slice).get(MANAGED_BY) == CONTROLLER


def _nothing(*_: Object) -> None:
    """Other changes of nodes move no endpoint."""
