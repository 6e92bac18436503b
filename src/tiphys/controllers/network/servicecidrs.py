"""The service CIDR controller: says whether a range of service addresses is in use, and keeps it while it is needed.

Source: https://kubernetes.io/docs/concepts/services-networking/cluster-ip-allocation/ and
https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/1880-multiple-service-cidrs
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tiphys.api.meta.conditions import set_condition
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import IP_ADDRESSES, SERVICE_CIDRS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    condition,
    copy,
    finalizers_of,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    status_of,
    timestamp,
)
from tiphys.controllers.context import ControllerContext

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
GRACE = 10.0
"""Seconds between the deletion and the end, so that every API server stops allocating from the range."""
STILL_USED = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(cidr: Object) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in cidr["spec"].get("cidrs") or ()]


def _holders(wanted: Network, cidrs: Iterable[Object]) -> list[str]:
    """Names of the ranges that contain all of ``wanted`` and are not being deleted, unless they are it."""
    return [
        name_of(cidr)
        for cidr in cidrs
        if any(network.version == wanted.version and wanted.subnet_of(network) for network in networks_of(cidr))  # type: ignore[arg-type]
    ]


def may_go(cidr: Object, cidrs: list[Object], addresses: Iterable[Object]) -> bool:
    """Whether no service would be left with an address outside of every range."""
    own = name_of(cidr)
    if all(len(set(_holders(network, cidrs)) - {own}) > 0 for network in networks_of(cidr)):
        return True
    for address in addresses:
        if labels_of(address).get(MANAGED_BY) != ALLOCATOR:
            continue
        if _holders(ipaddress.ip_network(name_of(address)), cidrs) == [own]:
            return False
    return True


class ServiceCIDRController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("service-cidr-controller")
        self._cidrs = context.informers.informer(SERVICE_CIDRS)
        self._addresses = context.informers.informer(IP_ADDRESSES)
        self._controller = context.controller("servicecidrs", self.reconcile, workers=5)
        self._controller.watches(self._cidrs, self._overlapping)
        self._controller.watches(self._addresses, self._containing)

    async def run(self) -> None:
        await self._controller.run()

    def _overlapping(self, cidr: Object) -> list[str]:
        own = networks_of(cidr)
        return [name_of(cidr)] + [
            name_of(other)
            for other in self._cidrs.store.list()
            if any(a.version == b.version and a.overlaps(b) for a in networks_of(other) for b in own)
        ]

    def _containing(self, address: Object) -> list[str]:
        return _holders(ipaddress.ip_network(name_of(address)), self._cidrs.store.list())

    async def reconcile(self, key: str) -> Result | None:
        cidr = self._cidrs.store.get("", key)
        if cidr is None:
            return None
        if is_deleting(cidr):
            return await self._delete(cidr)
        if FINALIZER not in finalizers_of(cidr):
            await self._patch(cidr, {"finalizers": [FINALIZER]})
        await self._set_condition(cidr, "True", "", "Kubernetes Service CIDR is ready")
        return None

    async def _delete(self, cidr: Object) -> Result | None:
        if not may_go(cidr, self._cidrs.store.list(), self._addresses.store.list()):
            await self._set_condition(cidr, "False", "Terminating", STILL_USED)
            return None
        deleted = parse_time(cidr["metadata"]["deletionTimestamp"]) or 0.0
        left = deleted + GRACE - self._clock.now()
        if left > 0:
            return Result(after=left)
        if FINALIZER in finalizers_of(cidr):
            await self._patch(cidr, {"$deleteFromPrimitiveList/finalizers": [FINALIZER]})
        return None

    async def _patch(self, cidr: Object, meta: Object) -> None:
        try:
            await self._client.patch(SERVICE_CIDRS, name_of(cidr), {"metadata": meta}, type=STRATEGIC_MERGE)
        except errors.NotFound:
            return

    async def _set_condition(self, cidr: Object, value: str, reason: str, message: str) -> None:
        wanted = {"type": "Ready", "status": value, "reason": reason, "message": message}
        current = condition(cidr, "Ready")
        if current is not None and all((current.get(field) or "") == text for field, text in wanted.items()):
            return
        conditions = copy(status_of(cidr).get("conditions") or [])
        set_condition(conditions, wanted, timestamp(self._clock.now()))
        patch = {"status": {"conditions": conditions}}
        await self._client.patch(SERVICE_CIDRS, name_of(cidr), patch, subresource="status")
