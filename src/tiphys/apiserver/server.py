"""``APIServer``: the composition of an API server. Everything that it is made of is put together here."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from tiphys.api.resources import builtin_scheme
from tiphys.api.scheme import Resource, Scheme
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.admission.plugins import make_plugins
from tiphys.apiserver.aggregator.asking import Asking
from tiphys.apiserver.aggregator.availability import AvailabilityFollower
from tiphys.apiserver.aggregator.backends import Backends
from tiphys.apiserver.aggregator.documents import RemoteDocuments
from tiphys.apiserver.aggregator.proxying import Aggregator
from tiphys.apiserver.aggregator.services import RemoteServices
from tiphys.apiserver.authn import setup as authentication
from tiphys.apiserver.authz import setup as authorization
from tiphys.apiserver.bootstrap.flowcontrol import DanglingFollower
from tiphys.apiserver.bootstrap.identity import lease_name
from tiphys.apiserver.bootstrap.objects import Bootstrap
from tiphys.apiserver.call import Filter
from tiphys.apiserver.chain import Parts, build_chain
from tiphys.apiserver.config import Config
from tiphys.apiserver.crd.controller import DefinitionController
from tiphys.apiserver.endpoints.respond import failure
from tiphys.apiserver.endpoints.router import Router
from tiphys.apiserver.endpoints.special import special_endpoints
from tiphys.apiserver.endpoints.subresources.connect import NodeDialer
from tiphys.apiserver.filters.bodylimit import too_large
from tiphys.apiserver.filters.browsers import allow_origins, require_tls
from tiphys.apiserver.filters.gate import Gate
from tiphys.apiserver.leaving import Leaving, Stage
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.apiserver.ownevents import repair_events, warn
from tiphys.apiserver.paths.health import HealthPath, Unhealthy, ping, start_checks
from tiphys.apiserver.paths.openapi import Documents
from tiphys.apiserver.paths.routes import Paths
from tiphys.apiserver.paths.zpages import Pages
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Ids
from tiphys.apiserver.registry.services.repair import ServiceRepair
from tiphys.apiserver.registry.setup import make_strategies
from tiphys.apiserver.registry.strategies.claims import device_strategies
from tiphys.apiserver.registry.strategies.policies import policy_strategies
from tiphys.apiserver.registry.strategies.roles import grant_strategies
from tiphys.apiserver.storage.compactor import Compactor
from tiphys.apiserver.storage.converted import Conversions
from tiphys.apiserver.storage.entry import Codec
from tiphys.apiserver.storage.feed import Feed, TooLargeRevision
from tiphys.apiserver.storage.watchers import Watchers
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.apiserver.webhooks.figures import ConversionFigures
from tiphys.controlkit.serving.pprof import Profiling
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import MENDS_ITSELF_SECONDS, Runner
from tiphys.store.backend import Backend, StoreError
from tiphys.wire.http import Handler, Request, Response

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from tiphys.apiserver.audit.config import AuditConfig
    from tiphys.apiserver.encryption.source import Sealing
    from tiphys.apiserver.filters.audit import Auditing

log = logging.getLogger(__name__)

_STATUS_PATHS = ("/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version")
_FREE_BITS = (1 << 128) - 1 ^ 0xF << 76 ^ 0x3 << 62
_VERSION_4 = 4 << 76 | 2 << 62
"""The bits of a UUID that say its version and variant (RFC 9562)."""
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


class APIServer:
    """``handler`` answers requests from ``start`` on; before, and while it stops, ``/readyz`` says no.

    ``dialer`` reaches the kubelets, for logs, exec and the like; None refuses those calls.
    """

    def __init__(
        self,
        config: Config,
        backend: Backend,
        clock: Clock,
        *,
        scheme: Scheme | None = None,
        dialer: NodeDialer | None = None,
    ) -> None:
        self.config = config
        self.scheme = scheme or builtin_scheme()
        self.clock = clock
        self._sealing = None if config.encryption_config is None else _sealing(config, backend, clock)
        self._backend = backend = backend if self._sealing is None else self._sealing.backend
        self._runner = Runner(clock, "apiserver ")
        self._feed = Feed(backend, clock, config.storage_root)
        self._compactor = Compactor(self._feed, clock, config.compaction_interval)
        ids = make_ids(config.seed)
        self.registries = Registries(
            scheme=self.scheme,
            feed=self._feed,
            clock=clock,
            runner=self._runner,
            ids=ids,
            root=config.storage_root,
            lease_reuse=config.lease_reuse_seconds,
        )
        self.registries.as_protobuf = config.storage_as_protobuf
        if self._sealing is not None:
            self._sealing.backend.serve(self.scheme)
            self._sealing.backend.reread = self._feed.reread
            self.registries.must_rewrite = self._sealing.backend.is_stale
        make_strategies(self.registries, config)
        self.metrics = RequestMetrics(self.scheme)
        self.metrics.add_source(self._figures)
        self._started = False
        self._alive_until = clock.monotonic() + config.livez_grace_period

        self.authentication = authentication.make(config, self.registries, clock, ids)
        self.authorization = authorization.Authorization(config, self.registries)
        self.metrics.add_source(partial(self.authentication.figures, lease_name(config.hostname)))
        self.metrics.add_source(partial(self.authorization.figures, lease_name(config.hostname)))
        self.registries.strategies.update(
            grant_strategies(self.authorization.guard)
            | policy_strategies(self.registries, self.authorization.authorizer)
            | device_strategies(self.registries, self.authorization.authorizer)
        )
        self.webhooks = WebhookClient(self.registries)
        self._conversions = ConversionFigures()
        self.metrics.add_source(self._conversions.collect)
        self.registries.conversions = self._conversions_of
        self.admission = AdmissionChain(
            make_plugins(config, self.registries, self.authorization.authorizer, self.webhooks)
        )
        self.gate = Gate(config, self.registries, clock)
        self.leaving = Leaving(config, clock, self.gate.in_flight, self._all_watchers)
        documents = Documents(self.scheme, clock)
        services = RemoteServices(self.registries)
        self.backends = Backends(self.registries, config.proxy_certificate, to_endpoints=config.aggregator_routing)
        asking = Asking(self.backends)
        documents.remote = RemoteDocuments(services, asking, documents.forget)
        self._availability = AvailabilityFollower(
            self.registries, check=asking.check, observer=documents.remote, runner=self._runner
        )
        self.metrics.add_source(self._availability.figures)
        self._audit = None if config.audit is None else _auditing(config.audit, clock)
        self.paths = Paths(
            scheme=self.scheme,
            health=self._health(),
            metrics=self.metrics,
            issuer=config.service_account_issuers[0],
            jwks_uri=config.service_account_jwks_uri,
            jwks=self.authentication.jwks,
            address=f"{config.external_hostname or config.advertise_address}:{config.advertise_port}",
            documents=documents,
            remote=documents.remote,
            pages=Pages("apiserver", clock, config.flags, _STATUS_PATHS),
            debug=self.gate.pages,
            profiling=Profiling() if config.profiling else None,
        )
        self._bootstrap = Bootstrap(config, self.registries, clock)
        self._definitions = DefinitionController(self.registries, clock, self._runner, documents.forget)
        special = special_endpoints(config, self.registries, self.authentication, self.authorization,
                                    self.admission, dialer)  # fmt: skip
        router = Router(
            scheme=self.scheme,
            registries=self.registries,
            admission=self.admission,
            special=special,
            paths=self.paths,
            watch_seconds=config.min_request_timeout,
            delete_workers=config.delete_collection_workers,
        )
        parts = Parts(
            clock=clock,
            ids=ids,
            metrics=self.metrics,
            admit=self.gate.filter,
            unauthenticated=() if self._audit is None else (self._audit.refused,),
            audit=() if self._audit is None else (self._audit.filter,),
            authenticator=self.authentication.authenticator,
            authorizer=self.authorization.authorizer,
            anonymous=_anonymous(self.authentication, self.authorization),
            request_timeout=config.request_timeout,
            max_body=config.max_body_bytes,
            front_proxy=config.front_proxy,
            browsers=(*((self.leaving.filter,) if config.shutdown_retry_after else ()), *_browsers(config)),
        )
        aggregator = Aggregator(services, self.backends, redirects=config.aggregator_redirects)
        self.handler: Handler = build_chain(parts, aggregator.before(router))

    def _all_watchers(self) -> Iterable[Watchers]:
        return [registry.store.cacher.watchers for registry in self.registries.made()]

    def _conversions_of(self, resource: Resource, codec: Codec) -> Conversions:
        from tiphys.apiserver.crd.converting import ConversionWebhook, WebhookConversions
        from tiphys.apiserver.crd.stored import StoredCodec

        assert isinstance(codec, StoredCodec)
        webhook = ConversionWebhook(
            resource,
            caller=self.webhooks,
            uid=self.registries.ids.uid,
            clock=self.clock,
            figures=self._conversions,
        )
        return WebhookConversions(resource, codec, webhook, self._runner)

    async def oversized(self, request: Request) -> Response:
        """The answer to a request whose body is so large that it was not read."""
        return failure(None, too_large(self.config.max_body_bytes))

    # -- life

    async def start(self) -> None:
        """Begin to follow the store and make sure of what every cluster has. Raises ``StoreError``."""
        if self._audit is not None:
            self._audit.sink.start(self._runner)
            self.metrics.add_source(self._audit.sink.figures)
        if self._sealing is not None:
            self._runner.supervise(self._sealing.run, "encryption")
        await self._feed.open()
        self._runner.supervise(self._feed.run, "feed")
        await self._bootstrap.ensure()
        await self.gate.start(self._runner, self.metrics)
        await self._definitions.start()
        self._runner.supervise(self._definitions.run, "definitions")
        self._runner.supervise(DanglingFollower(self.registries).run, "flow schemas")
        self._runner.supervise(self._availability.run, "API services")
        if self.authentication.issuers is not None:
            self._runner.supervise(self.authentication.issuers.run, "token issuers")
        if self.config.authorization_config is not None:
            self._runner.supervise(self.authorization.run, "authorization")
        self._runner.supervise(self._bootstrap.keep, "housekeeping")
        self._runner.supervise(self._mark_watches, "bookmarks")
        self._runner.supervise(self._repair_services, "service repair")
        if self.config.compaction_interval:
            self._runner.supervise(self._compactor.run, "compaction")
        self._started = True

    async def withdraw(self) -> None:
        """Stop being ready, take the address out of the service's endpoints, serve for a while, and end watches."""
        self.leaving.stage = Stage.UNREADY
        if self._started:
            await self._bootstrap.withdraw()
            await self.leaving.delay()

    async def stop(self) -> None:
        """Stop. Whoever serves the port withdraws first, and then closes the port."""
        if self.leaving.stage is Stage.SERVING:
            await self.withdraw()
        for registry in self.registries.made():
            registry.store.cacher.watchers.cut_off_all()
        await asyncio.sleep(0)
        await self.webhooks.close()
        await self.admission.close()
        await self.backends.close()
        await self.authorization.close()
        await self.authentication.close()
        await self._runner.close()
        if self._audit is not None:
            await self._audit.sink.stop()
        if self._sealing is not None:
            await self._sealing.close()

    async def _repair_services(self) -> None:
        await self.clock.sleep(self.config.service_repair_interval)
        recorder = repair_events(self.handler, self.clock)
        writing = self._runner.supervise(recorder.run, "events of service repair")
        repair = ServiceRepair(self.registries, partial(warn, recorder))
        try:
            while True:
                await repair.repair()
                await self.clock.sleep(self.config.service_repair_interval)
        finally:
            writing.cancel()

    async def _mark_watches(self) -> None:
        """Send watches bookmarks now and then, so that they can continue from there."""
        while True:
            await self.clock.sleep(self.config.bookmark_interval)
            for registry in self.registries.made():
                registry.store.cacher.watchers.mark(self._feed.revision)

    # -- health and figures

    def _health(self) -> list[HealthPath]:
        base = {"ping": ping, "log": ping, "etcd": self._check_store}
        hooks = dict.fromkeys(start_checks(fairness=self.config.priority_and_fairness), self._check_started)
        shared = {"watch-cache": self._check_caches, "background-tasks": self._check_tasks}
        if self._sealing is not None:
            shared["kms-providers"] = self._check_sealing
        ready = {
            "ping": ping,
            "log": ping,
            "etcd": self._check_store,
            "etcd-readiness": self._check_store_ready,
            **shared,
        }
        alive = {
            **base,
            **dict.fromkeys(hooks, self._check_started_in_time),
            "background-tasks": self._check_tasks_for_long,
        }
        return [
            HealthPath("healthz", {**base, **hooks, **shared}),
            HealthPath("livez", alive),
            HealthPath(
                "readyz", {**ready, "informer-sync": self._check_started, **hooks, "shutdown": self._check_running}
            ),
        ]

    async def _check_caches(self) -> None:
        """Whether reads that must see every write are served."""
        if not self._started:
            raise Unhealthy("not finished")
        try:
            await self._feed.fresh()
        except TooLargeRevision as error:
            raise Unhealthy(f"the caches do not follow the store: {error}") from error
        except StoreError as error:
            raise Unhealthy(str(error)) from error

    async def _check_tasks(self, since: float = 0.0) -> None:
        if troubles := self._runner.troubles(since):
            raise Unhealthy("; ".join(f"{name}: {error}" for name, error in troubles.items()))

    async def _check_tasks_for_long(self) -> None:
        """For those who start the server again: only what does not mend itself."""
        await self._check_tasks(MENDS_ITSELF_SECONDS)

    async def _check_sealing(self) -> None:
        if self._sealing is not None and self._sealing.problem:
            raise Unhealthy(self._sealing.problem)

    async def _check_store(self) -> None:
        await self._store_answers(self.config.store_health_timeout)

    async def _check_store_ready(self) -> None:
        await self._store_answers(self.config.store_ready_timeout)

    async def _store_answers(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._backend.healthy()
        except StoreError as error:
            raise Unhealthy(str(error)) from error
        except TimeoutError as error:
            raise Unhealthy(f"the store has not answered within {seconds:g} s") from error

    async def _check_started_in_time(self) -> None:
        if self.clock.monotonic() >= self._alive_until:
            await self._check_started()

    async def _check_started(self) -> None:
        if not self._started:
            raise Unhealthy("not finished")

    async def _check_running(self) -> None:
        if self.leaving.stage is not Stage.SERVING:
            raise Unhealthy("process is shutting down")

    def _figures(self) -> Iterable[Metric]:
        """The families of figures that are read on demand."""
        from prometheus_client.core import GaugeMetricFamily

        inflight = GaugeMetricFamily(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last"
            " second.",
            labels=("request_kind",),
        )
        inflight.add_metric(("readOnly",), self.gate.in_flight.reading)
        inflight.add_metric(("mutating",), self.gate.in_flight.mutating)
        yield inflight
        objects = GaugeMetricFamily(
            "apiserver_storage_objects",
            "Number of stored objects at the time of last check split by kind.",
            labels=("resource",),
        )
        watches = GaugeMetricFamily(
            "apiserver_longrunning_requests", "Gauge of all active long-running apiserver requests.",
            labels=("verb", "group", "resource"),
        )  # fmt: skip
        for registry in self.registries.made() if self.config.counts_objects else ():
            objects.add_metric((registry.resource.name,), len(registry.store.cacher))
        for registry in self.registries.made():
            watches.add_metric(("WATCH", registry.group, registry.plural), len(registry.store.cacher.watchers))
        yield objects
        yield watches


def _browsers(config: Config) -> list[Filter]:
    """Filters for browsers, if any are requested."""
    filters = []
    if config.strict_transport_security:
        filters.append(require_tls(config.strict_transport_security))
    if config.cors_allowed_origins:
        filters.append(allow_origins(config.cors_allowed_origins))
    return filters


def make_ids(seed: int | None) -> Ids:
    """Unique ids and name suffixes; reproducible if there is a seed."""
    generator = random.Random(seed if seed is not None else random.SystemRandom().getrandbits(256))

    bits = generator.getrandbits

    def uid() -> str:
        """A version 4 UUID, the identity of an object; it is no secret."""
        text = f"{bits(128) & _FREE_BITS | _VERSION_4:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def suffix() -> str:
        return "".join(generator.choices(_SUFFIX, k=5))

    return Ids(uid, suffix)


def _anonymous(
    authentication: authentication.Authentication, authorization: authorization.Authorization
) -> Callable[[str], bool]:
    """Strangers are never let in if everybody may do everything."""
    if not authorization.allows_all:
        return authentication.anonymous
    log.warning("anonymous callers are refused, as the authorization mode AlwaysAllow lets everybody do everything")
    return lambda path: False


def _sealing(config: Config, backend: Backend, clock: Clock) -> Sealing:
    """What seals values in the store. Raises ``ConfigFileError``."""
    from tiphys.apiserver.encryption.source import Sealing

    return Sealing(config, backend, clock)


def _auditing(config: AuditConfig, clock: Clock) -> Auditing:
    from tiphys.apiserver.filters.audit import Auditing

    return Auditing(config, clock)
