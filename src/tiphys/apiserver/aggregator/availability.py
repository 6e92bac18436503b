"""Whether the APIs that services in the cluster serve can be had, as the condition ``Available`` of their APIServices.

First what is missing before anybody is asked: the service, the port, its endpoints; then the server itself is asked for
its discovery document. Each API service is looked after by a task of
its own: one that does not answer keeps no other waiting.
Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/api-service-v1/
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tiphys.api import errors
from tiphys.api.apply import excluding, of_paths, update_managed_fields
from tiphys.api.gotext import quote
from tiphys.api.meta.conditions import find_condition, set_condition
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.apiserver.aggregator.services import Remote, remote_of
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.strategies.apiservices import LOCAL
from tiphys.apiserver.storage.entry import Entry
from tiphys.runtime.clock import backoff
from tiphys.runtime.tasks import Runner

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger(__name__)


GROUP = "apiregistration.k8s.io"
_SLICES = "discovery.k8s.io"
_SERVICE_NAME = "kubernetes.io/service-name"
_MANAGER = "kube-apiserver"
_GATHER_SECONDS = 0.1
"""Changes that come together are looked at together."""
_FIRST_RETRY_SECONDS = 1.0
_RESYNC_SECONDS = 30.0
_AVAILABLE = {"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed"}


def missing(reference: Object, service: Object | None, slices: Sequence[Object]) -> Object | None:
    """The condition of an API whose service, the one of ``reference``, lacks something, without its time; None: it may
    be asked."""
    named = f"service/{reference['name']} in {quote(reference['namespace'])}"
    if service is None:
        return _unavailable("ServiceNotFound", f"{named} is not present")
    if service["spec"].get("type") != "ClusterIP":
        return None
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
    return None


def _is_local(obj: Object) -> bool:
    known = find_condition((obj.get("status") or {}).get("conditions"), "Available")
    return known is not None and {**known, **LOCAL} == known


def _unavailable(reason: str, message: str) -> Object:
    return {"type": "Available", "status": "False", "reason": reason, "message": message}


def _serves(endpoint_slice: Object, port: str) -> bool:
    ready = any((e.get("conditions") or {}).get("ready", True) for e in endpoint_slice.get("endpoints") or ())
    return ready and any(p.get("name") == port and "port" in p for p in endpoint_slice.get("ports") or ())


class Observer(Protocol):
    """Who wants to know what looking at the servers gave."""

    async def seen(self, remote: Remote, *, answers: bool) -> None:
        """A server has been looked at."""
        ...

    def gone(self, name: str) -> None:
        """An API service is no longer served elsewhere."""
        ...


@dataclass(eq=False, slots=True)
class _Followed:
    """One API service that is looked after. ``state`` is what its last look was at."""

    state: tuple[object, ...]
    task: asyncio.Task[None]
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class AvailabilityFollower:
    """Brings the conditions up to date: after changes of an APIService, its service or its endpoints, every 30 seconds,
    and sooner while a server does not answer. ``observer`` gets the results."""

    def __init__(
        self, registries: Registries, *, check: Callable[[Remote], Awaitable[str]], observer: Observer, runner: Runner
    ) -> None:
        """``check`` gives what is wrong with the server of an API, or nothing."""
        self._registries = registries
        self._registry = registries.get(GROUP, "apiservices")
        self._check = check
        self._observer = observer
        self._runner = runner
        self._followed: dict[str, _Followed] = {}
        self.unavailable: dict[str, str] = {}
        """The reasons of what is not available now, by name."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """How often each became unavailable, by name and reason."""

    async def run(self) -> None:
        changed = asyncio.Event()
        with ExitStack() as stack:
            for group, plural in ((GROUP, "apiservices"), ("", "services"), (_SLICES, "endpointslices")):
                stack.enter_context(self._registries.get(group, plural).store.cacher.followed(changed.set))
            while True:
                changed.clear()
                await self._look_at_all()
                await self._registries.clock.sleep(_GATHER_SECONDS)
                await changed.wait()

    async def _look_at_all(self) -> None:
        """Wake the tasks of those of which something has changed; begin and end tasks."""
        every = [(entry, self._registry.shared_object(entry)) for entry in await self._registry.all()]
        remotes = [(entry, obj["spec"]["service"]) for entry, obj in every if obj["spec"].get("service") is not None]
        for entry, obj in every:
            if obj["spec"].get("service") is None and not _is_local(obj):
                await self._write_contained(entry)
        for name in self._followed.keys() - {entry.name for entry, _ in remotes}:
            self._followed.pop(name).task.cancel()
            self.unavailable.pop(name, None)
            self._observer.gone(name)
        for entry, reference in remotes:
            try:
                self._wake(entry.name, await self._state(entry, reference))
            except Exception:
                log.exception("what API service %s depends on could not be read", entry.name)

    def _wake(self, name: str, state: tuple[object, ...]) -> None:
        """Have an API service looked at, if nobody does yet or what it depends on has changed."""
        known = self._followed.get(name)
        if known is None or known.task.done():
            task = self._runner.spawn(self._follow(name), f"API service {name}")
            self._followed[name] = _Followed(state, task)
        elif known.state != state:
            known.state = state
            known.changed.set()

    async def _write_contained(self, entry: Entry) -> None:
        """One that is served here again is available; one that cannot be written keeps nobody waiting."""
        try:
            await self._write(entry, LOCAL)
        except Exception:
            log.exception("the availability of API service %s could not be written", entry.name)

    async def _state(self, entry: Entry, reference: Object) -> tuple[object, ...]:
        """What the availability depends on: not the conditions, which are written here."""
        spec = self._registry.shared_object(entry)["spec"]
        service = await self._service(reference)
        slices = await self._slices(reference)
        revisions = [obj["metadata"]["resourceVersion"] for obj in slices]
        return (spec, service and service["metadata"]["resourceVersion"], revisions)

    async def _follow(self, name: str) -> None:
        delays = backoff(_FIRST_RETRY_SECONDS, 2, _RESYNC_SECONDS)
        while True:
            try:
                answered = await self._look_at(name)
            except Exception:
                log.exception("the availability of API service %s could not be found out", name)
                answered = False
            if answered:
                delays = backoff(_FIRST_RETRY_SECONDS, 2, _RESYNC_SECONDS)
            known = self._followed.get(name)
            if known is None:
                return
            if await self._wait(known.changed, _RESYNC_SECONDS if answered else next(delays)):
                delays = backoff(_FIRST_RETRY_SECONDS, 2, _RESYNC_SECONDS)

    async def _wait(self, changed: asyncio.Event, seconds: float) -> bool:
        """Whether something changed before the time was over."""
        sleep = asyncio.ensure_future(self._registries.clock.sleep(seconds))
        change = asyncio.ensure_future(changed.wait())
        try:
            await asyncio.wait((sleep, change), return_when=asyncio.FIRST_COMPLETED)
            return changed.is_set()
        finally:
            changed.clear()
            sleep.cancel()
            change.cancel()

    async def _look_at(self, name: str) -> bool:
        """Whether its server answered, or need not be asked again soon."""
        entry = await self._registry.store.get("", name)
        remote = None if entry is None else remote_of(obj := self._registry.object(entry))
        if entry is None or remote is None:
            return True
        reference = {"port": 443, **obj["spec"]["service"]}
        condition = missing(reference, await self._service(reference), await self._slices(reference))
        asked = condition is None
        if condition is None:
            problem = await self._check(remote)
            condition = _unavailable("FailedDiscoveryCheck", problem) if problem else _AVAILABLE
        self._count(name, condition)
        await self._write(entry, condition)
        await self._observer.seen(remote, answers=condition is _AVAILABLE)
        return not asked or condition is _AVAILABLE

    def _count(self, name: str, condition: Object) -> None:
        if condition is _AVAILABLE:
            self.unavailable.pop(name, None)
        elif self.unavailable.get(name) != condition["reason"]:
            self.unavailable[name] = condition["reason"]
            self.failures[name, condition["reason"]] += 1

    def figures(self) -> Iterable[Metric]:
        """Under upstream's names."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        gauge = GaugeMetricFamily(
            "aggregator_unavailable_apiservice", "API services that are not available.", labels=("name",)
        )
        for name in self._followed:
            gauge.add_metric((name,), float(name in self.unavailable))
        yield gauge
        total = CounterMetricFamily(
            "aggregator_unavailable_apiservice", "How often API services became unavailable.", labels=("name", "reason")
        )
        for key, count in self.failures.items():
            total.add_metric(key, count)
        yield total

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

    async def _write(self, entry: Entry, condition: Object) -> None:
        """Write the condition to the stored APIService, unless its specification changed meanwhile."""
        registry = self._registry
        write = registry.write_context(subresource="status", manager=_MANAGER)
        seen = registry.object(entry)
        spec = seen["spec"]
        if not _set(seen, condition, write.now):
            return
        gvk = registry.strategy.gvk
        filters = {gvk.api_version: excluding(of_paths(*registry.strategy.reset_by_status))}

        async def transform(stored: Object | None) -> Object:
            assert stored is not None
            if stored["spec"] != spec:  # it is looked at again as it is now
                return copy(stored)
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
