"""All registries of a server, made when they are first requested."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api import conversion
from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind, Resource, Scheme
from tiphys.apiserver.registry.kinds import from_facts
from tiphys.apiserver.registry.registry import Ids, Registry
from tiphys.apiserver.registry.strategy import Strategy
from tiphys.apiserver.storage.cacher import Cacher
from tiphys.apiserver.storage.converted import Conversions, StoredStore
from tiphys.apiserver.storage.entry import Codec
from tiphys.apiserver.storage.feed import Feed
from tiphys.apiserver.storage.fields import fields_of, selector_of
from tiphys.apiserver.storage.leases import REUSE_SECONDS, Leases
from tiphys.apiserver.storage.objects import MustRewrite, ObjectStore
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

_KEPT_AS = {("events.k8s.io", "events"): ("", "events")}
"""Resources that show objects of another group's resource."""


class Registries:
    """``strategies`` holds the ones that need more than their kind's facts."""

    def __init__(
        self,
        *,
        scheme: Scheme,
        feed: Feed,
        clock: Clock,
        runner: Runner,
        ids: Ids,
        root: str,
        lease_reuse: int = REUSE_SECONDS,
    ) -> None:
        self.scheme = scheme
        self.feed = feed
        self.clock = clock
        self.strategies: dict[GroupKind, Strategy] = {}
        self._runner = runner
        self.ids = ids
        self._root = root
        self.as_protobuf = False
        """Whether built-in kinds are kept in the protobuf form."""
        self.must_rewrite: MustRewrite | None = None
        """What decides, for all stores that are made from now on, whether an unchanged object is written."""
        self._leases = Leases(feed.backend, clock, lease_reuse)
        self._made: dict[tuple[str, str], Registry] = {}
        self._views: dict[tuple[str, str], Registry] = {}
        self.conversions: Callable[[Resource, Codec], Conversions] | None = None
        """Makes who converts the objects of a custom resource that names a webhook for it."""

    def get(self, group: str, plural: str) -> Registry:
        """The registry of a resource that the scheme has."""
        key = (group, plural)
        if key in _KEPT_AS:
            if key not in self._views:
                strategy = self.strategies[self._row(group, plural).group_kind]
                self._views[key] = self.get(*_KEPT_AS[key]).under(strategy, group)
            return self._views[key]
        registry = self._made.get(key)
        if registry is None:
            registry = self._made[key] = self._make(self._row(group, plural))
        return registry

    def _row(self, group: str, plural: str) -> Resource:
        resource = self.scheme.resource(group, plural)
        assert resource is not None, f"no resource {plural}.{group}"
        return resource

    def _make(self, resource: Resource) -> Registry:
        strategy, codec = self._custom(resource) if resource.custom else self._builtin(resource)
        prefix = f"{self._root}/{resource.storage_prefix}/"
        cacher = Cacher(feed=self.feed, codec=codec, prefix=prefix, runner=self._runner, clock=self.clock)
        kind = StoredStore if resource.conversion == "Webhook" else ObjectStore
        store = kind(
            prefix=prefix,
            namespaced=resource.namespaced,
            codec=codec,
            cacher=cacher,
            leases=self._leases,
            must_rewrite=self.must_rewrite,
        )
        if isinstance(store, StoredStore):
            assert self.conversions is not None
            store.conversions = self.conversions(resource, codec)
        return Registry(resource=resource, strategy=strategy, store=store, clock=self.clock, ids=self.ids)

    def _builtin(self, resource: Resource) -> tuple[Strategy, Codec]:
        strategy = self.strategies.get(resource.group_kind)
        if strategy is None:
            strategy = from_facts(resource.group_kind)(resource.gvk(resource.storage_version))
        select, fields = selector_of(resource.group, resource.kind), fields_of(resource.group, resource.kind)
        return strategy, Codec(resource, select, fields=fields, as_protobuf=self.as_protobuf)

    def _custom(self, resource: Resource) -> tuple[Strategy, Codec]:
        from tiphys.apiserver.crd.stored import CustomCodec, StoredCodec
        from tiphys.apiserver.crd.strategy import CustomStrategy

        codec = StoredCodec if resource.conversion == "Webhook" else CustomCodec
        return CustomStrategy(resource, resource.storage_version), codec(resource)

    async def converted(self, obj: Object, source: GroupVersionKind, target: GroupVersionKind) -> Object:
        """An object in another version, or as the kind of another group that shows the same. Raises ``StatusError``."""
        resource = self._custom_kind(target) if source != target else None
        if resource is None:
            return conversion.convert(obj, source, target)
        store = self.get(resource.group, resource.plural).store
        if isinstance(store, StoredStore):
            return await store.conversions.object(obj, target.version)
        return {**obj, "apiVersion": target.api_version}

    def _custom_kind(self, kind: GroupVersionKind) -> Resource | None:
        of_kind = (r for r in self.scheme.resources() if (r.group, r.kind) == (kind.group, kind.kind))
        return next((resource for resource in of_kind if resource.custom), None)

    def known(self, group: str, plural: str) -> Registry | None:
        """The registry of a resource, if somebody has asked for it."""
        return self._made.get(_KEPT_AS.get((group, plural), (group, plural)))

    def made(self) -> list[Registry]:
        """Those that have been requested."""
        return list(self._made.values())

    def forget(self, group: str, plural: str) -> None:
        """The resource is no longer served."""
        registry = self._made.pop((group, plural), None)
        if registry is not None:
            self.feed.ignore(registry.store.prefix)
            registry.store.cacher.watchers.cut_off_all()
