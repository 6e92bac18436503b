"""Keeps haproxy in step with Ingresses, Gateways and HTTPRoutes, and says in their statuses what became of them.

All that is served is computed from the objects as a whole whenever one of them changes, at most a few times a second;
haproxy is given what differs. What an object asks for in vain is an event on it, and is in nobody else's way.

Sources: https://kubernetes.io/docs/concepts/services-networking/ingress-controllers/ and
https://gateway-api.sigs.k8s.io/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from tiphys.addons.ingress import gateways
from tiphys.addons.ingress.backends import World
from tiphys.addons.ingress.gatewaystatus import class_status, gateway_status, route_status
from tiphys.addons.ingress.haproxy import HAProxy
from tiphys.addons.ingress.ingresses import Wishes, wishes_of
from tiphys.addons.ingress.merging import merge
from tiphys.api.endpointslices import by_service, service_of
from tiphys.api.meta.objects import annotations_of, is_deleting, key_of, name_of, namespace_of, split_key, uid_of
from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import (
    ENDPOINT_SLICES,
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    INGRESS_CLASSES,
    INGRESSES,
    SECRETS,
    SERVICES,
    ResourcePath,
)
from tiphys.client.rest import Client
from tiphys.controlkit.events import EventRecorder
from tiphys.controlkit.haproxy import ProxyError
from tiphys.controlkit.objects import equal
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import Ready, whenever
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

CONTROLLER = "tiphys.io/ingress-haproxy"
LEGACY_CLASS = "kubernetes.io/ingress.class"
SERVICE = "kube-system", "tiphys-ingress"
"""The Service that leads to the proxy: its addresses are those of all Ingresses."""
GATHER, RELOAD_EVERY, RETRY = 0.1, 1.0, 5.0
"""Seconds: changes that come within the first are taken in one go, reloads are so far apart, and what failed is tried
again."""
DISCOVER_EVERY = 15.0
MOST_PROBLEMS = 10
"""So many of one object's problems become events at a time."""
_BY_SERVICE = "service"


class IngressController:
    def __init__(self, *, client: Client, clock: Clock, proxy: HAProxy) -> None:
        self._client, self._clock, self._proxy = client, clock, proxy
        self._recorder = EventRecorder(client, clock, "tiphys-ingress")
        self._wake = asyncio.Event()
        self._services_used: set[tuple[str, str]] = {SERVICE}
        self._reported: dict[str, tuple[str, ...]] = {}
        """The problems that each object has had an event about, by its uid."""
        self._informers: dict[ResourcePath, Informer] = {}
        for resource in (INGRESSES, INGRESS_CLASSES, SECRETS, SERVICES, ENDPOINT_SLICES):
            self._informer(resource, "type=kubernetes.io/tls" if resource is SECRETS else "")
        self._informers[ENDPOINT_SLICES].add_index(_BY_SERVICE, by_service)

    def _informer(self, resource: ResourcePath, fields: str = "") -> Informer:
        made = self._informers[resource] = Informer(self._client, resource, self._clock, field_selector=fields)
        made.add_handler(Callbacks(changed=lambda obj: self._changed(resource, obj)))
        return made

    def _changed(self, resource: ResourcePath, obj: Object) -> None:
        """Most Services and EndpointSlices of a cluster are behind no Ingress."""
        if resource is SERVICES and (namespace_of(obj), name_of(obj)) not in self._services_used:
            return
        if resource is ENDPOINT_SLICES:
            key = service_of(obj)
            if key is None or split_key(key) not in self._services_used:
                return
        self._wake.set()

    async def run(self, ready: Ready = whenever) -> None:
        async with Runner(self._clock, "ingress ") as runner:
            for resource, informer in list(self._informers.items()):
                runner.supervise(informer.run, f"informer {resource.plural}")
            runner.supervise(self._recorder.run, "events")
            for informer in list(self._informers.values()):
                await informer.wait_synced()
            runner.supervise(lambda: self._discover(runner), "discovery")
            ready()
            await runner.supervise(self._keep_in_step, "sync")

    async def _discover(self, runner: Runner) -> None:
        """Follow Gateway API's objects from the moment that its CRDs are there."""
        while HTTP_ROUTES not in self._informers:
            if await self._serves_gateways():
                for resource in (GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES):
                    runner.supervise(self._informer(resource).run, f"informer {resource.plural}")
                return
            await self._clock.sleep(DISCOVER_EVERY)
        await asyncio.Event().wait()

    async def _serves_gateways(self) -> bool:
        try:
            for resource in (GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES):
                await self._client.list(resource, limit=1)
        except (ApiError, ConnectionError, TimeoutError):
            return False
        return True

    async def _keep_in_step(self) -> None:
        while True:
            self._wake.clear()
            reloaded, failed = False, False
            try:
                reloaded = await self._sync()
            except (ProxyError, ApiError, ConnectionError, TimeoutError) as error:
                log.error("what is served is not what it should be; trying again: %s", error)
                failed = True
            await self._clock.sleep(RELOAD_EVERY if reloaded else GATHER)
            try:
                async with asyncio.timeout(RETRY if failed else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sync(self) -> bool:
        """Serve what the objects say now; whether that took a reload."""
        ingresses = [wishes_of(ingress, self._world) for ingress in self._list(INGRESSES) if self._is_ours(ingress)]
        ours, routes = self._read_gateways()
        everybody = [*ingresses, *(g.wishes for g in ours if g.wishes is not None), *(r.wishes for r in routes)]
        used = {SERVICE}.union(*(wishes.services for wishes in everybody))
        if new := used - self._services_used:
            self._services_used |= new
        await self._leave_out_bad_certificates(everybody)
        routing = merge(everybody)
        reloaded = await self._proxy.apply(routing)
        self._services_used = used
        self._report(everybody)
        for wishes in ingresses:
            await self._show(INGRESSES, wishes.obj, {"loadBalancer": self._addresses()})
        await self._show_gateways(ours, routes)
        return reloaded

    async def _leave_out_bad_certificates(self, everybody: Iterable[Wishes]) -> None:
        everybody = list(everybody)
        bad = await self._proxy.bad_certificates(tuple(c for wishes in everybody for c in wishes.certificates))
        for wishes in everybody:
            for certificate in [c for c in wishes.certificates if c.name in bad]:
                wishes.certificates.remove(certificate)
                secret = certificate.name.partition("_")[2]
                wishes.problems.append(f"tls: the certificate of secret {secret} is not accepted by haproxy")

    # What there is.

    @property
    def _world(self) -> World:
        return World(
            service=self._informers[SERVICES].store.get,
            slices=lambda space, name: self._informers[ENDPOINT_SLICES].store.by_index(_BY_SERVICE, f"{space}/{name}"),
            secret=self._informers[SECRETS].store.get,
        )

    def _list(self, resource: ResourcePath) -> list[Object]:
        informer = self._informers.get(resource)
        return [] if informer is None else [obj for obj in informer.store.list() if not is_deleting(obj)]

    def _is_ours(self, ingress: Object) -> bool:
        name = ingress["spec"].get("ingressClassName")
        if name is None:
            name = annotations_of(ingress).get(LEGACY_CLASS)
        named = self._informers[INGRESS_CLASSES].store.get("", name) if name else None
        return named is not None and named["spec"].get("controller") == CONTROLLER

    def _read_gateways(self) -> tuple[list[gateways.ReadGateway], list[gateways.ReadRoute]]:
        classes = {
            name_of(obj)
            for obj in self._list(GATEWAY_CLASSES)
            if obj["spec"].get("controllerName") == gateways.CONTROLLER
        }
        ours = [gateway for gateway in self._list(GATEWAYS) if gateway["spec"].get("gatewayClassName") in classes]
        return gateways.read_all(ours, self._list(HTTP_ROUTES), self._world)

    def _addresses(self) -> Object:
        """The addresses at which all of it is served, as ``status.loadBalancer``."""
        service = self._informers[SERVICES].store.get(*SERVICE)
        shown = (((service or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        entries = [{key: entry[key] for key in ("ip", "hostname") if entry.get(key)} for entry in shown]
        return {"ingress": entries} if entries else {}

    # What is said.

    def _report(self, everybody: Iterable[Wishes]) -> None:
        reported: dict[str, tuple[str, ...]] = {}
        for wishes in everybody:
            problems = tuple(dict.fromkeys(wishes.problems))
            reported[uid_of(wishes.obj)] = problems
            before = self._reported.get(uid_of(wishes.obj), ())
            for problem in [problem for problem in problems if problem not in before][:MOST_PROBLEMS]:
                self._recorder.event(wishes.obj, "Warning", "NotServed", problem)
        self._reported = reported

    async def _show_gateways(self, ours: list[gateways.ReadGateway], routes: list[gateways.ReadRoute]) -> None:
        addresses = [entry.get("ip") or entry.get("hostname") for entry in self._addresses().get("ingress") or ()]
        now = self._clock.now()
        for obj in self._list(GATEWAY_CLASSES):
            if obj["spec"].get("controllerName") == gateways.CONTROLLER:
                await self._show(GATEWAY_CLASSES, obj, class_status(obj, now))
        for gateway in ours:
            await self._show(GATEWAYS, gateway.obj, gateway_status(gateway, addresses, now))
        for route in routes:
            if route.parents:
                await self._show(HTTP_ROUTES, route.obj, route_status(route, now))

    async def _show(self, resource: ResourcePath, obj: Object, status: Object) -> None:
        """Write what differs. An object that is gone is no failure, and one that fails keeps no other from its own."""
        shown = obj.get("status") or {}
        changes = {name: value or None for name, value in status.items() if not equal(shown.get(name) or {}, value)}
        if not changes:
            return
        try:
            place = name_of(obj), {"status": changes}, obj["metadata"].get("namespace", "")
            await self._client.patch(resource, *place, subresource="status")
        except NotFound:
            return
        except ApiError as error:
            log.warning("the status of %s %s cannot be written: %s", resource.plural, key_of(obj), error)
