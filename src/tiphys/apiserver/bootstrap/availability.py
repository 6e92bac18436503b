"""Whether the APIs that services in the cluster serve can be had, as the condition ``Available`` of their APIServices.

None can be: this server sends no requests to services. What is missing before that is reported as upstream reports it:
the service, the port, its endpoints.
Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from tiphys.api import errors
from tiphys.api.apply import excluding, of_paths, update_managed_fields
from tiphys.api.gotext import quote
from tiphys.api.meta.conditions import set_condition
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.storage.entry import Entry

log = logging.getLogger(__name__)


GROUP = "apiregistration.k8s.io"
_SLICES = "discovery.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_MANAGER = "kube-apiserver"


def availability(reference: Object, service: Object | None, slices: Sequence[Object]) -> Object:
    """The condition of an API that is served by the service of ``reference``, without its time."""
    named = f"service/{reference['name']} in {quote(reference['namespace'])}"
    if service is None:
        return _unavailable("ServiceNotFound", f"{named} is not present")
    uncalled = _unavailable("FailedDiscoveryCheck", f"no requests are sent to {named}")
    if service["spec"].get("type") != "ClusterIP":
        return uncalled
    number = reference["port"]
    port = next((port for port in service["spec"].get("ports") or () if port["port"] == number), None)
    if port is None:
        return _unavailable("ServicePortError", f"{named} is not listening on port {number}")
    if not slices:
        return _unavailable("EndpointsNotFound", f"cannot find endpointslices for {named}")
    name = port.get("name", "")
    if not any(_serves(endpoint_slice, name) for endpoint_slice in slices):
        text = f"endpointslices for {named} have no addresses with port name {quote(name)}"
        return _unavailable("MissingEndpoints", text)
    return uncalled


def _unavailable(reason: str, message: str) -> Object:
    return {"type": "Available", "status": "False", "reason": reason, "message": message}


def _serves(endpoint_slice: Object, port: str) -> bool:
    ready = any((e.get("conditions") or {}).get("ready", True) for e in endpoint_slice.get("endpoints") or ())
    return ready and any(p.get("name") == port and "port" in p for p in endpoint_slice.get("ports") or ())


class AvailabilityFollower:
    """Brings the conditions up to date after every change of an APIService, a service or its endpoints."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._registry = registries.get(GROUP, "apiservices")

    async def run(self) -> None:
        changed = asyncio.Event()
        for group, plural in ((GROUP, "apiservices"), ("", "services"), (_SLICES, "endpointslices")):
            self._registries.get(group, plural).store.cacher.on_change = changed.set
        while True:
            await self._look_at_all()
            await changed.wait()
            changed.clear()

    async def _look_at_all(self) -> None:
        for entry in await self._registry.all():
            try:
                await self._look_at(entry)
            except Exception:
                log.exception("the availability of API service %s could not be written", entry.name)

    async def _look_at(self, entry: Entry) -> None:
        reference = self._registry.shared_object(entry)["spec"].get("service")
        if reference is not None:
            condition = availability(reference, await self._service(reference), await self._slices(reference))
            await self._tell(entry, condition)

    async def _service(self, reference: Object) -> Object | None:
        registry = self._registries.get("", "services")
        entry = await registry.store.get(reference["namespace"], reference["name"])
        return None if entry is None else registry.shared_object(entry)

    async def _slices(self, reference: Object) -> list[Object]:
        registry = self._registries.get(_SLICES, "endpointslices")
        cacher = registry.store.cacher
        await cacher.ready()
        slices = [registry.shared_object(entry) for entry in cacher.under(f"{cacher.prefix}{reference['namespace']}/")]
        return [obj for obj in slices if (obj["metadata"].get("labels") or {}).get(_SERVICE_NAME) == reference["name"]]

    async def _tell(self, entry: Entry, condition: Object) -> None:
        registry = self._registry
        write = registry.write(subresource="status", manager=_MANAGER)
        if not _set(registry.object(entry), condition, write.now):
            return
        gvk = registry.strategy.gvk
        filters = {gvk.api_version: excluding(of_paths(*registry.strategy.reset_by_status))}

        async def transform(stored: Object | None) -> Object:
            assert stored is not None
            _set(new := copy(stored), condition, write.now)
            return update_managed_fields(
                stored, new, _MANAGER, gvk, schema_for(gvk), write.now, "status", filters=filters
            )

        try:
            change = updating.Update("", entry.name, transform, updating.StatusRules(registry))
            await updating.update(registry, change, write)
        except errors.StatusError as error:
            if error.code != 404:
                raise


def _set(obj: Object, condition: Object, now: str) -> bool:
    status = obj.setdefault("status", {})
    return set_condition(status.setdefault("conditions", []), condition, now)
