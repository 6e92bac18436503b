"""Endpoint slice mirroring: Endpoints that users write for services without selector are copied to EndpointSlices.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    annotations_of,
    controller_reference,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controlkit.queue import RateLimiter
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.network import endpointscommon as common
from tiphys.controllers.network.endpointslice.plan import MANAGED_BY, SERVICE_NAME, endpoint_key, ports_key
from tiphys.controllers.network.endpointslice.tracker import SliceTracker, service_key

CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_PER_SUBSET = 1000
MAX_RETRIES = 15

_BY_SERVICE = "service"


def should_mirror(endpoints: Object) -> bool:
    return labels_of(endpoints).get(SKIP_MIRROR) != "true" and LEADER_ANNOTATION not in annotations_of(endpoints)


@dataclass(slots=True)
class MirrorPlan:
    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    invalid: int = 0
    skipped: int = 0


def plan(endpoints: Object, existing: Sequence[Object], limit: int = MAX_PER_SUBSET) -> MirrorPlan:
    """One slice for each family and set of ports."""
    result = MirrorPlan()
    wanted: dict[tuple[str, object], tuple[list[Object], dict[object, Object]]] = {}
    for subset in endpoints.get("subsets") or ():
        _read_subset(subset, wanted, result, limit)
    known: dict[tuple[str, object], list[Object]] = {}
    for endpoint_slice in existing:
        known.setdefault((endpoint_slice["addressType"], ports_key(endpoint_slice.get("ports"))), []).append(
            endpoint_slice
        )
    for key, (ports, desired) in wanted.items():
        _plan_slice(endpoints, key[0], ports, list(desired.values()), known.pop(key, []), result)
    for found_slices in known.values():
        result.delete += found_slices
    _recycle(result)
    return result


def _read_subset(
    subset: Object,
    wanted: dict[tuple[str, object], tuple[list[Object], dict[object, Object]]],
    result: MirrorPlan,
    limit: int,
) -> None:
    """Add a subset's endpoints to ``wanted``, at most ``limit``; counts what is invalid or skipped in ``result``."""
    ports = [
        {
            "name": port.get("name") or "",
            "port": port["port"],
            "protocol": port.get("protocol", "TCP"),
            **({"appProtocol": port["appProtocol"]} if port.get("appProtocol") is not None else {}),
        }
        for port in subset.get("ports") or ()
    ]
    addresses = [(address, True) for address in subset.get("addresses") or ()]
    addresses += [(address, False) for address in subset.get("notReadyAddresses") or ()]
    added = 0
    for address, ready in addresses:
        if added >= limit:
            break
        family = common.family_of(address["ip"])
        if family is None:
            result.invalid += 1
            continue
        endpoint = _endpoint(address, ready=ready)
        wanted.setdefault((family, ports_key(ports)), (ports, {}))[1][endpoint_key(endpoint)] = endpoint
        added += 1
    result.skipped += len(addresses) - added


def _endpoint(address: Object, *, ready: bool) -> Object:
    endpoint: Object = {
        "addresses": [str(ipaddress.ip_address(address["ip"]))],
        "conditions": {"ready": ready},
    }
    for name, value in (
        ("hostname", address.get("hostname")),
        ("targetRef", address.get("targetRef")),
        ("nodeName", address.get("nodeName")),
    ):
        if value:
            endpoint[name] = value
    return endpoint


def _mirrored_annotations(endpoints: Object) -> dict[str, str]:
    skipped = (common.TRIGGER_TIME, LAST_APPLIED)
    return {name: value for name, value in annotations_of(endpoints).items() if name not in skipped}


def _plan_slice(
    endpoints: Object,
    family: str,
    ports: list[Object],
    desired: list[Object],
    existing: Sequence[Object],
    result: MirrorPlan,
) -> None:
    result.delete += existing[1:]
    current = existing[0] if existing else None
    if current is not None and _is_current(endpoints, current, desired):
        return
    made = _new_slice(endpoints, family, ports, desired)
    if current is None:
        made["metadata"]["generateName"] = f"{name_of(endpoints)}-"
        result.create.append(made)
    else:
        made["metadata"]["name"] = name_of(current)
        result.update.append(made)


def _is_current(endpoints: Object, current: Object, desired: Iterable[Object]) -> bool:
    have = {endpoint_key(endpoint): endpoint for endpoint in current.get("endpoints") or ()}
    want = {endpoint_key(endpoint): endpoint for endpoint in desired}
    labels = {name: v for name, v in labels_of(current).items() if name not in (MANAGED_BY, SERVICE_NAME)}
    owners = current["metadata"].get("ownerReferences") or ()
    return (
        have == want
        and labels == dict(labels_of(endpoints))
        and dict(annotations_of(current)) == _mirrored_annotations(endpoints)
        and any(reference["uid"] == uid_of(endpoints) for reference in owners)
    )


def _new_slice(endpoints: Object, family: str, ports: list[Object], desired: list[Object]) -> Object:
    labels = {**labels_of(endpoints), SERVICE_NAME: name_of(endpoints), MANAGED_BY: CONTROLLER}
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "namespace": namespace_of(endpoints),
            "labels": labels,
            "annotations": _mirrored_annotations(endpoints),
            "ownerReferences": [controller_reference(endpoints, "v1", "Endpoints")],
        },
        "addressType": family,
        "endpoints": desired,
        "ports": ports,
    }


def _recycle(result: MirrorPlan) -> None:
    """Change a slice that is to be deleted into one that is to be created."""
    for made in list(result.create):
        doomed = next(
            (
                endpoint_slice
                for endpoint_slice in result.delete
                if endpoint_slice["addressType"] == made["addressType"]
            ),
            None,
        )
        if doomed is not None:
            result.create.remove(made)
            result.delete.remove(doomed)
            made["metadata"].pop("generateName")
            made["metadata"]["name"] = name_of(doomed)
            result.update.append(made)


class EndpointSliceMirroringController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder.named("endpoint-slice-mirroring-controller")
        self._endpoints = context.informers.informer(ENDPOINTS)
        self._services = context.informers.informer(SERVICES)
        self._slices = context.informers.informer(ENDPOINT_SLICES)
        if not self._slices.store.has_index(_BY_SERVICE):
            self._slices.add_index(_BY_SERVICE, lambda endpoint_slice: (service_key(endpoint_slice),))
        self._tracker = SliceTracker()
        limiter: RateLimiter[str] = RateLimiter(context.clock, base=1.0, maximum=100.0)
        self._controller = context.controller(
            "endpoint_slice_mirroring",
            self.reconcile,
            workers=context.config.mirroring_concurrent_service_endpoint_syncs,
            max_retries=MAX_RETRIES,
            limiter=limiter,
        )
        self._per_subset = context.config.mirroring_max_endpoints_per_subset
        self._period = context.config.mirroring_endpoint_slice_updates_batch_period
        self._controller.watches(self._endpoints)
        self._controller.handles(
            self._services,
            Callbacks(
                added=self._enqueue_bare,
                updated=self._service_changed,
                deleted=self._enqueue_bare,
            ),
        )
        seen: Callable[[Object], None] = self._slice_seen
        self._controller.handles(
            self._slices,
            Callbacks(
                added=seen,
                updated=lambda old, new: seen(new) if _is_ours(old) == _is_ours(new) else self._enqueue_slice(new),
                deleted=self._slice_gone,
            ),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue_bare(self, service: Object) -> None:
        if service["spec"].get("selector") is None:
            self._controller.queue.add(key_of(service))

    def _service_changed(self, old: Object, new: Object) -> None:
        if (old["spec"].get("selector") is None) != (new["spec"].get("selector") is None):
            self._controller.queue.add(key_of(new))

    def _slice_seen(self, endpoint_slice: Object) -> None:
        if _is_ours(endpoint_slice) and self._tracker.is_news(endpoint_slice):
            self._enqueue_slice(endpoint_slice)

    def _slice_gone(self, endpoint_slice: Object) -> None:
        if _is_ours(endpoint_slice) and not self._tracker.deletion_was_ours(endpoint_slice):
            self._enqueue_slice(endpoint_slice)

    def _enqueue_slice(self, endpoint_slice: Object) -> None:
        self._controller.queue.add_after(service_key(endpoint_slice), self._period)

    async def reconcile(self, key: str) -> Result | None:
        """Mirror an Endpoints object of a Service without a selector, or delete the mirrored slices."""
        endpoints = self._endpoints.store.get(*split_key(key))
        service = self._services.store.get(*split_key(key))
        slices = [
            endpoint_slice
            for endpoint_slice in self._slices.store.by_index(_BY_SERVICE, key)
            if _is_ours(endpoint_slice)
        ]
        if (
            endpoints is None
            or service is None
            or not should_mirror(endpoints)
            or service["spec"].get("selector") is not None
        ):
            self._tracker.forget(key)
            await self._delete(slices)
            return None
        if self._tracker.is_stale(key, slices):
            return Result(retry=True)
        planned = plan(endpoints, slices, self._per_subset)
        self._warn(endpoints, planned)
        await self._carry_out(endpoints, planned)
        return None

    def _warn(self, endpoints: Object, planned: MirrorPlan) -> None:
        if planned.invalid:
            message = f"Skipped {planned.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._recorder.event(endpoints, "Warning", "InvalidIPAddress", message)
        if planned.skipped > planned.invalid:
            message = (
                f"A max of {self._per_subset} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{planned.skipped} addresses were skipped"
            )
            self._recorder.event(endpoints, "Warning", "TooManyAddressesToMirror", message)

    async def _carry_out(self, endpoints: Object, planned: MirrorPlan) -> None:
        for made in planned.create if not is_deleting(endpoints) else ():
            try:
                self._tracker.wrote(await self._client.create(ENDPOINT_SLICES, made))
            except errors.ApiError as error:
                if namespace_is_terminating(error):
                    return
                raise
        for made in planned.update:
            self._tracker.wrote(await self._client.update(ENDPOINT_SLICES, made))
        await self._delete(planned.delete)
        for endpoint_slice in planned.delete:
            self._tracker.expect_deletion(endpoint_slice)

    async def _delete(self, slices: Iterable[Object]) -> None:
        for endpoint_slice in slices:
            try:
                await self._client.delete(ENDPOINT_SLICES, name_of(endpoint_slice), namespace_of(endpoint_slice))
            except errors.NotFound:
                continue


def _is_ours(endpoint_slice: Object) -> bool:
    return labels_of(endpoint_slice).get(MANAGED_BY) == CONTROLLER
