"""The service controller: each Service of type LoadBalancer gets a load balancer of the cloud while it wants one.

A finalizer keeps the Service until its load balancer is gone. All that is done for one Service is done one after
another; when nodes come or go, each load balancer gets its new backends.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/#service-controller
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from tiphys.api.endpointslices import by_service, nodes_with_endpoints, service_of
from tiphys.api.meta.objects import finalizers_of, key_of, name_of, namespace_of, split_key, uid_of
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.rest import MERGE, STRATEGIC_MERGE
from tiphys.cloud.context import CloudContext
from tiphys.cloud.provider import ImplementedElsewhere, LoadBalancers, RetryAfter
from tiphys.cloud.services import (
    FINALIZER,
    backends,
    changes_backends,
    needs_cleanup,
    needs_update,
    same_backends,
    wants_load_balancer,
)
from tiphys.controlkit.controller import Controller, Result
from tiphys.controlkit.objects import equal
from tiphys.controlkit.queue import RateLimiter

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 5.0, 300.0
_NAMES_SHOWN = 20
_BY_SERVICE = "service"


@dataclass(slots=True)
class _Known:
    """A Service whose load balancer is ours: as it was when that was last brought up to date, and where it leads."""

    service: Object
    nodes: Sequence[Object]
    current: bool = False
    """False until the cloud has done what the Service wants."""


class _Failed(Exception):
    """What could not be done, and why; the cause may say when to ask again."""


class ServiceController:
    def __init__(self, context: CloudContext, balancers: LoadBalancers) -> None:
        self._client, self._balancers = context.client, balancers
        self._recorder = context.recorder.named("service-controller")
        self._cluster = context.config.cluster_name
        self._only_ready = context.config.balance_only_ready_nodes
        self._services = context.informers.informer(SERVICES)
        self._nodes = context.informers.informer(NODES)
        self._slices = context.informers.informer(ENDPOINT_SLICES) if self._only_ready else None
        self._known: dict[str, _Known] = {}
        self._controller = Controller(
            "service",
            self.reconcile,
            context.clock,
            workers=context.config.concurrent_service_syncs,
            limiter=RateLimiter(context.clock, base=FIRST_RETRY, maximum=LAST_RETRY, rate=None),
            registry=context.registry,
        )
        add = self._controller.queue.add
        self._controller.handles(
            self._services,
            Callbacks(
                added=lambda service: add(key_of(service)) if _concerns(service) else None,
                updated=self._changed,
                deleted=lambda service: add(key_of(service)),
            ),
        )
        if self._slices is not None:
            self._slices.add_index(_BY_SERVICE, by_service)
            self._controller.handles(self._slices, Callbacks(changed=self._endpoints_changed))
        self._controller.handles(
            self._nodes,
            Callbacks(added=lambda _: self._all(), updated=self._node_changed, deleted=lambda _: self._all()),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _changed(self, old: Object, new: Object) -> None:
        if needs_update(old, new) or needs_cleanup(new):
            self._controller.queue.add(key_of(new))

    def _node_changed(self, old: Object, new: Object) -> None:
        if changes_backends(old, new, only_ready=self._only_ready):
            self._all()

    def _endpoints_changed(self, slice_: Object) -> None:
        """Where endpoints are matters to Services that keep traffic on their nodes."""
        key = service_of(slice_)
        if key in self._known and _keeps_on_nodes(self._known[key].service):
            self._controller.queue.add(key)

    def _backends(self, service: Object) -> list[Object]:
        nodes = backends(self._nodes.store.list(), only_ready=self._only_ready)
        if self._slices is None or not _keeps_on_nodes(service):
            return nodes
        there = nodes_with_endpoints(self._slices.store.by_index(_BY_SERVICE, key_of(service)))
        return [node for node in nodes if name_of(node) in there]

    def _all(self) -> None:
        for key in self._known:
            self._controller.queue.add(key)

    async def reconcile(self, key: str) -> Result | None:
        """Bring one Service's load balancer to what it wants; a failure is an event, and tried again."""
        service, known = self._services.store.get(*split_key(key)), self._known.get(key)
        about = service if service is not None or known is None else known.service
        if about is None:
            return None
        try:
            if known is not None and (service is None or uid_of(service) != uid_of(known.service)):
                await self._delete(known.service)  # its finalizer was taken off by somebody else
                del self._known[key]
            if service is not None:
                await self._reconcile(key, service)
        except _Failed as failure:
            text = f"Error syncing load balancer: {failure}"
            self._recorder.event(about, "Warning", "SyncLoadBalancerFailed", text)
            cause = failure.__cause__
            return Result(after=cause.seconds) if isinstance(cause, RetryAfter) else Result(retry=True)
        return None

    async def _reconcile(self, key: str, service: Object) -> None:
        if not wants_load_balancer(service) or needs_cleanup(service):
            if _concerns(service) or key in self._known:
                await self._clean_up(service)
                self._known.pop(key, None)
            return
        nodes = self._backends(service)
        known = self._known.get(key)
        if known is None or not known.current or needs_update(known.service, service):
            known = self._known[key] = _Known(service, nodes)
            await self._ensure(service, nodes)
            known.current = True
        elif not same_backends(known.nodes, nodes):
            await self._update(service, nodes)
            known.nodes = nodes

    # A load balancer that is wanted.

    async def _ensure(self, service: Object, nodes: Sequence[Object]) -> None:
        self._event(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        if FINALIZER not in finalizers_of(service):
            await self._patch(service, {"metadata": {"finalizers": [FINALIZER]}}, "add load balancer cleanup finalizer")
        if not nodes:
            self._warn_no_nodes(service)
        try:
            status = await self._balancers.ensure(self._cluster, service, nodes)
        except ImplementedElsewhere:
            return
        except Exception as error:
            raise _Failed(f"failed to ensure load balancer: {error}") from error
        self._event(service, "EnsuredLoadBalancer", "Ensured load balancer")
        await self._show(service, status)

    async def _update(self, service: Object, nodes: Sequence[Object]) -> None:
        try:
            status = await self._balancers.update(self._cluster, service, nodes)
        except ImplementedElsewhere:
            return
        except Exception as error:
            if not await self._exists(service):
                return
            names = [name_of(node) for node in nodes[:_NAMES_SHOWN]]
            if len(nodes) > _NAMES_SHOWN:
                names.append(f"<{len(nodes) - _NAMES_SHOWN} more>")
            text = (
                f"Error updating load balancer with new hosts [{' '.join(names)}] [node names limited, total number of"
                f" nodes: {len(nodes)}], error: {error}"
            )
            self._recorder.event(service, "Warning", "UpdateLoadBalancerFailed", text)
            raise _Failed(f"failed to update load balancer hosts: {error}") from error
        if nodes:
            self._event(service, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
        else:
            self._warn_no_nodes(service)
        if status is not None:
            await self._show(service, status)

    async def _exists(self, service: Object) -> bool:
        try:
            return await self._balancers.get(self._cluster, service) is not None
        except Exception as error:
            raise _Failed(f"failed to check if load balancer exists: {error}") from error

    def _warn_no_nodes(self, service: Object) -> None:
        text = "There are no available nodes for LoadBalancer"
        self._recorder.event(service, "Warning", "UnAvailableLoadBalancer", text)

    # One that is not wanted any more.

    async def _clean_up(self, service: Object) -> None:
        if await self._exists(service):
            await self._delete(service)
        if FINALIZER in finalizers_of(service):
            patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
            await self._patch(service, patch, "remove load balancer cleanup finalizer")
        await self._show(service, {})

    async def _delete(self, service: Object) -> None:
        self._event(service, "DeletingLoadBalancer", "Deleting load balancer")
        try:
            await self._balancers.delete(self._cluster, service)
        except ImplementedElsewhere:
            return
        except Exception as error:
            raise _Failed(f"failed to delete load balancer: {error}") from error
        self._event(service, "DeletedLoadBalancer", "Deleted load balancer")

    # The Service.

    async def _show(self, service: Object, status: Object) -> None:
        shown = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        if not equal(shown, status.get("ingress") or []):
            patch = {"status": {"loadBalancer": status or None}}
            await self._patch(service, patch, "update load balancer status", MERGE)

    async def _patch(self, service: Object, patch: Object, doing: str, kind: str = STRATEGIC_MERGE) -> None:
        """Through the status, which the controller's role lets it write. A Service that is gone is no failure."""
        try:
            place = name_of(service), patch, namespace_of(service)
            await self._client.patch(SERVICES, *place, type=kind, subresource="status")
        except errors.NotFound:
            log.debug("service %s is gone", key_of(service))
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            raise _Failed(f"failed to {doing}: {error}") from error

    def _event(self, service: Object, reason: str, text: str) -> None:
        self._recorder.event(service, "Normal", reason, text)


def _keeps_on_nodes(service: Object) -> bool:
    return bool(service["spec"].get("externalTrafficPolicy") == "Local")


def _concerns(service: Object) -> bool:
    return wants_load_balancer(service) or needs_cleanup(service)
