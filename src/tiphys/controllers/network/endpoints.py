"""The endpoints controller: for each Service with a selector, one Endpoints object with the addresses of its pods.

Source: https://kubernetes.io/docs/concepts/services-networking/service/#endpoints
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ENDPOINTS, PODS, SERVICES
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    annotations_of,
    copy,
    equal,
    key_of,
    labels_of,
    name_of,
    split_key,
)
from tiphys.controlkit.podcontrol import namespace_is_terminating
from tiphys.controlkit.queue import WorkQueue
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.network import endpointscommon as common

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"
NAME = "endpoint-controller"
CAPACITY = 1000
"""Addresses that one Endpoints object may have."""

MAX_RETRIES = 15


# Decisions

Port = tuple[tuple[str, object], ...]


def subsets_for(service: Object, pods: Iterable[Object]) -> list[Object]:
    """The subsets: addresses that serve the same ports are together."""
    spec = service["spec"]
    publish = bool(spec.get("publishNotReadyAddresses"))
    by_port: dict[Port, dict[str, tuple[Object, bool]]] = {}
    for pod in pods:
        if not common.belongs(pod, include_terminating=publish):
            continue
        address = _address(service, pod)
        if address is None:
            continue
        ready = publish or podkit.is_ready(pod)
        for port in _ports(service, pod):
            by_port.setdefault(port, {})[address["ip"] + address["targetRef"]["uid"]] = (address, ready)
    return _pack(by_port)


def _address(service: Object, pod: Object) -> Object | None:
    addresses = common.pod_addresses(pod, _family(service, pod))
    if not addresses:
        return None
    address: Object = {"ip": addresses[0]}
    hostname = common.hostname_of(pod, service)
    if hostname:
        address["hostname"] = hostname
    if podkit.node_of(pod):
        address["nodeName"] = podkit.node_of(pod)
    address["targetRef"] = common.pod_reference(pod)
    return address


def _family(service: Object, pod: Object) -> str:
    spec = service["spec"]
    if spec.get("ipFamilies"):
        return str(spec["ipFamilies"][0])
    if common.has_cluster_ip(service):
        return common.family_of(spec["clusterIP"]) or common.IPV4
    return common.family_of((pod.get("status") or {}).get("podIP") or "") or common.IPV4


def _ports(service: Object, pod: Object) -> list[Port]:
    """The ports of one pod, hashable; one empty port for a headless service without ports."""
    ports = service["spec"].get("ports") or []
    if not ports:
        return [()] if common.is_headless(service) else []
    result: list[Port] = []
    for port in ports:
        number = common.find_port(pod, port)
        if number is None:
            continue
        entry = {"name": port.get("name"), "port": number, "protocol": port.get("protocol", "TCP")}
        entry["appProtocol"] = port.get("appProtocol")
        result.append(tuple((key, value) for key, value in entry.items() if value))
    return result


def _pack(by_port: dict[Port, dict[str, tuple[Object, bool]]]) -> list[Object]:
    """Ports that are served by the same addresses, equally ready, become one subset."""
    groups: dict[tuple[tuple[str, bool], ...], list[Port]] = {}
    for port, addresses in by_port.items():
        identity = tuple(sorted((key, ready) for key, (_, ready) in addresses.items()))
        groups.setdefault(identity, []).append(port)
    subsets = []
    for ports in groups.values():
        addresses = by_port[ports[0]]
        subset: Object = {}
        ready = [address for _, (address, ready) in sorted(addresses.items()) if ready]
        unready = [address for _, (address, ready) in sorted(addresses.items()) if not ready]
        if ready:
            subset["addresses"] = ready
        if unready:
            subset["notReadyAddresses"] = unready
        named = [dict(port) for port in sorted(ports, key=repr) if port]
        if named:
            subset["ports"] = named
        subsets.append(subset)
    return sorted(subsets, key=lambda subset: repr(subset.get("ports")))


def _count(subsets: Iterable[Object], field: str) -> int:
    return sum(len(subset.get(field) or ()) for subset in subsets)


def truncate(subsets: Sequence[Object], capacity: int = CAPACITY) -> bool:
    """Cut the subsets, in place, to ``capacity`` addresses, ready ones first. Whether that was needed."""
    ready, unready = _count(subsets, "addresses"), _count(subsets, "notReadyAddresses")
    if ready + unready <= capacity:
        return False
    field, total, limit = "notReadyAddresses", unready, capacity - ready
    if ready > capacity:
        field, total, limit = "addresses", ready, capacity
    left = limit
    for subset in subsets:
        own = subset.get(field) or []
        kept = own[: min(math.ceil(len(own) / total * limit), left)]
        left -= len(kept)
        _replace(subset, field, kept)
        if field == "addresses":
            _replace(subset, "notReadyAddresses", [])
    return True


def _replace(subset: Object, field: str, addresses: list[Object]) -> None:
    if addresses:
        subset[field] = addresses
    else:
        subset.pop(field, None)


def wanted_labels(service: Object) -> dict[str, str]:
    labels = {key: value for key, value in labels_of(service).items() if key != common.HEADLESS}
    if not common.has_cluster_ip(service):
        labels[common.HEADLESS] = ""
    labels[MANAGED_BY] = NAME
    return labels


def build(service: Object, current: Object | None, subsets: list[Object], trigger: str | None) -> Object:
    """The Endpoints object to write."""
    wanted = copy(current) if current is not None else _empty(service)
    meta = wanted["metadata"]
    annotations = dict(meta.get("annotations") or {})
    annotations.pop(common.TRIGGER_TIME, None)
    annotations.pop(OVER_CAPACITY, None)
    if trigger:
        annotations[common.TRIGGER_TIME] = trigger
    subsets = copy(subsets)
    if truncate(subsets):
        annotations[OVER_CAPACITY] = "truncated"
    meta["annotations"] = annotations
    meta["labels"] = wanted_labels(service)
    wanted["subsets"] = subsets
    return wanted


def _empty(service: Object) -> Object:
    meta = {"name": name_of(service), "namespace": service["metadata"]["namespace"]}
    return {"kind": "Endpoints", "apiVersion": "v1", "metadata": meta}


def is_current(service: Object, current: Object, subsets: list[Object]) -> bool:
    """Whether nothing needs to be written but perhaps the trigger time."""
    have = current.get("subsets") or []
    size = _count(have, "addresses") + _count(have, "notReadyAddresses")
    labels = {key: value for key, value in labels_of(current).items() if key != common.HEADLESS}
    expected = {key: value for key, value in wanted_labels(service).items() if key != common.HEADLESS}
    return (
        _same_subsets(have, subsets)
        and labels == expected
        and size <= CAPACITY
        and OVER_CAPACITY not in annotations_of(current)
    )


def _same_subsets(left: Iterable[Object], right: Iterable[Object]) -> bool:
    """Whether two lists of subsets mean the same, in whatever order."""

    def canonical(subsets: Iterable[Object]) -> list[Object]:
        result = []
        for subset in copy(list(subsets)):
            for field in ("addresses", "notReadyAddresses", "ports"):
                subset[field] = sorted(subset.get(field) or (), key=lambda entry: repr(sorted(entry.items(), key=repr)))
                for entry in subset[field]:
                    (entry.get("targetRef") or {}).pop("resourceVersion", None)
            result.append(subset)
        return sorted(result, key=lambda subset: repr([sorted(port.items()) for port in subset["ports"]]))

    return equal(canonical(left), canonical(right))


class _Leftovers:
    """Endpoints whose service went away while nobody watched are cleaned up; later ones are left alone."""

    def __init__(self, queue: WorkQueue[str]) -> None:
        self._queue = queue

    def added(self, endpoints: Object, *, initial: bool) -> None:
        if initial and LEADER_ANNOTATION not in annotations_of(endpoints):
            self._queue.add(key_of(endpoints))

    def updated(self, old: Object, new: Object) -> None:
        """What others write into Endpoints stays until the service or its pods change."""

    def deleted(self, endpoints: Object) -> None:
        self._queue.add(key_of(endpoints))


class EndpointsController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder.named(NAME)
        self._services = context.informers.informer(SERVICES)
        self._pods = context.informers.informer(PODS)
        self._endpoints = context.informers.informer(ENDPOINTS)
        self._triggers = common.TriggerTimes()
        self._outdated: dict[str, str] = {}
        """The resource versions that our own writes have replaced: an informer that still shows one lags."""
        self._controller = context.controller(
            "endpoint",
            self.reconcile,
            workers=context.config.concurrent_endpoint_syncs,
            max_retries=MAX_RETRIES,
        )
        period = context.config.endpoint_updates_batch_period
        self._controller.watches(self._services)
        self._controller.handles(self._pods, common.PodsOfServices(self._services, self._controller.queue, period))
        self._controller.handles(self._endpoints, _Leftovers(self._controller.queue))

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result | None:
        """Write the Endpoints of a Service with a selector; delete those of a missing one."""
        namespace, name = split_key(key)
        service = self._services.store.get(namespace, name)
        if service is None:
            self._triggers.forget(key)
            self._outdated.pop(key, None)
            await self._delete(namespace, name)
            return None
        if service["spec"].get("type") == "ExternalName" or service["spec"].get("selector") is None:
            return None
        current = self._endpoints.store.get(namespace, name)
        version = current["metadata"].get("resourceVersion", "") if current is not None else ""
        if self._outdated.get(key) == version:
            return Result(retry=True)
        pods = common.selected_pods(self._pods, service)
        trigger = self._triggers.compute(service, pods)
        subsets = subsets_for(service, pods)
        if current is not None and is_current(service, current, subsets):
            return None
        written = await self._write(service, build(service, current, subsets, trigger), create=current is None)
        if written is not None and written["metadata"].get("resourceVersion") != version:
            self._outdated[key] = version
        return None

    async def _delete(self, namespace: str, name: str) -> None:
        if self._endpoints.store.get(namespace, name) is None:
            return
        try:
            await self._client.delete(ENDPOINTS, name, namespace)
        except errors.NotFound:
            return

    async def _write(self, service: Object, wanted: Object, *, create: bool) -> Object | None:
        try:
            if create:
                return await self._client.create(ENDPOINTS, wanted)
            return await self._client.update(ENDPOINTS, wanted)
        except errors.ApiError as error:
            if create and namespace_is_terminating(error):
                return None
            what = "FailedToCreateEndpoint" if create else "FailedToUpdateEndpoint"
            place = f"{service['metadata']['namespace']}/{name_of(service)}"
            verb = f"create endpoint for service {place}" if create else f"update endpoint {place}"
            self._recorder.event(wanted, "Warning", what, f"Failed to {verb}: {error.message}")
            raise
