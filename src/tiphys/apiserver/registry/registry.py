"""``Registry``: the objects of one resource under its strategy: reads, and the one place through which writes go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tiphys.api import errors
from tiphys.api.fielderrors import FieldError
from tiphys.api.meta.timestamps import format_time
from tiphys.api.object import Object
from tiphys.api.scheme import Resource
from tiphys.apiserver.aside import Experience
from tiphys.apiserver.registry.strategy import Strategy, Write
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.objects import ObjectStore
from tiphys.runtime.clock import Clock

Validate = Callable[[Object], Awaitable[None]]
_MAX_SHARED = 2000
ValidateUpdate = Callable[[Object, Object], Awaitable[None]]


async def no_validation(*_: Object) -> None:
    """For writes of the server itself, which admission does not see."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Where unique ids and the suffixes of generated names come from."""

    uid: Callable[[], str]
    suffix: Callable[[], str]


class Registry:
    def __init__(self, *, resource: Resource, strategy: Strategy, store: ObjectStore, clock: Clock, ids: Ids) -> None:
        self.resource = resource
        self.strategy = strategy
        self.store = store
        self.clock = clock
        self.ids = ids
        self.group = resource.group
        self.plural = resource.plural
        self.experience = Experience()
        """Of checks that evaluate rules."""
        self._shared: dict[str, tuple[int, Object]] = {}

    def under(self, strategy: Strategy, group: str | None = None) -> Registry:
        """The same objects under other rules: those of another version of a custom resource, or those of another group
        that shows them, which then is named if something fails."""
        view = Registry(resource=self.resource, strategy=strategy, store=self.store, clock=self.clock, ids=self.ids)
        view.group = self.group if group is None else group
        return view

    async def get(self, namespace: str, name: str) -> Entry:
        """Raises 404."""
        entry = await self.store.get(namespace, name)
        if entry is None:
            raise self.not_found(name)
        return entry

    async def find(self, namespace: str, name: str) -> Object | None:
        """The object as far as the cache knows, for checks that tolerate a moment's delay."""
        entry = await self.store.cached(namespace, name)
        return None if entry is None else self.object(entry)

    async def shared(self, namespace: str, name: str) -> Object | None:
        """Like ``find``, but read once per version and shared by all callers, who must not change it."""
        entry = await self.store.cached(namespace, name)
        return None if entry is None else self.shared_object(entry)

    def shared_object(self, entry: Entry) -> Object:
        known = self._shared.get(entry.key)
        if known is None or known[0] != entry.revision:
            if len(self._shared) >= _MAX_SHARED:
                self._shared.clear()
            known = self._shared[entry.key] = (entry.revision, self.object(entry))
        return known[1]

    async def all(self, namespace: str = "") -> list[Entry]:
        """Every object, of a namespace or of all, as far as the cache knows."""
        cacher = self.store.cacher
        if not cacher.is_ready:
            await cacher.ready()
        return self._all(namespace)

    def _all(self, namespace: str) -> list[Entry]:
        cacher = self.store.cacher
        return list(cacher.under(self.store.place(namespace))) if len(cacher) else []

    async def every(self, namespace: str = "") -> list[Entry]:
        """As ``all``, for those who must not act as if an object were not there: raises 500 if one cannot be read."""
        cacher = self.store.cacher
        if not cacher.is_ready:
            await cacher.ready()
        if cacher.unreadable:
            cacher.check_readable(self.store.place(namespace))
        return self._all(namespace)

    def object(self, entry: Entry) -> dict[str, Any]:
        return self.store.codec.object(entry)

    def entry_of(self, obj: Object, revision: int = 0) -> Entry:
        """An object that is not in the store, in the form of one that is: what a dry run would have written."""
        meta = obj["metadata"]
        key = self.store.key(meta.get("namespace", ""), meta.get("name", ""))
        draft = self.store.codec.draft(obj)
        if revision:
            return self.store.codec.entry(key, draft.value, revision, draft)
        body = draft.value[len(self.store.codec.head) :]
        return Entry(key, meta.get("namespace", ""), meta.get("name", ""), draft.labels, draft.fields, body, 0)

    def told_key(self, namespace: str, name: str) -> str:
        """The key in the store as messages show it: for definitions of custom resources, without its first part."""
        key = self.store.key(namespace, name)
        return "/" + key[1:].partition("/")[2] if self.group == "apiextensions.k8s.io" else key

    def not_found(self, name: str) -> errors.StatusError:
        return errors.not_found(self.group, self.plural, name)

    def invalid(self, obj: Object, problems: list[FieldError]) -> errors.StatusError:
        """The object is named by what it says itself, as a custom resource may be of a wrong kind."""
        group, kind = self.resource.group, obj.get("kind") or self.resource.kind
        if self.resource.custom and obj.get("apiVersion"):
            group = obj["apiVersion"].rpartition("/")[0]
        return errors.invalid(group, kind, obj["metadata"].get("name", ""), problems)

    def conflict(self, name: str, reason: str = errors.STALE_OBJECT) -> errors.StatusError:
        return errors.conflict(self.group, self.plural, name, reason)

    def write_context(self, **more: Any) -> Write:
        """A write by the server itself."""
        now = self.clock.now()
        return Write(format_time(now), now, **more)
