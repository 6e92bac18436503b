"""Informers: a local, indexed copy of a resource that follows the API server, and notifies handlers of every change.

The reflector lists, then watches from the list's resource version; if the watch ends it watches on from the last
version that it saw, and if that version is gone (410) it lists again. Source: client-go's tools/cache, and
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import ResourcePath
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock, backoff
from tiphys.runtime.tasks import Runner, contain

log = logging.getLogger(__name__)

_TRIES = 5
"""How often a handler has an event again that it raised at: after 1, 2, 4 … seconds."""
Objects = list[Object]
Key = tuple[str, str]
"""Namespace (empty for cluster-scoped) and name."""


def store_key(obj: Object) -> Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def without_managed_fields(obj: Object) -> Object:
    """A transform: nobody but the API server reads managed fields, and they are half of an object's size."""
    obj["metadata"].pop("managedFields", None)
    return obj


class Handler(Protocol):
    """Notified of each change, in order, in the event loop. It must not block, and must not change the objects."""

    def added(self, obj: Object, *, initial: bool) -> None: ...

    def updated(self, old: Object, new: Object) -> None: ...

    def deleted(self, obj: Object) -> None: ...


class Callbacks:
    """A ``Handler`` from functions: ``changed(obj)`` for any change, or one for each kind of it."""

    def __init__(
        self,
        *,
        added: Callable[[Object], None] | None = None,
        updated: Callable[[Object, Object], None] | None = None,
        deleted: Callable[[Object], None] | None = None,
        changed: Callable[[Object], None] | None = None,
    ) -> None:
        self._added, self._updated, self._deleted, self._changed = added, updated, deleted, changed

    def added(self, obj: Object, *, initial: bool) -> None:
        if action := self._added or self._changed:
            action(obj)

    def updated(self, old: Object, new: Object) -> None:
        if self._updated:
            self._updated(old, new)
        elif self._changed:
            self._changed(new)

    def deleted(self, obj: Object) -> None:
        if action := self._deleted or self._changed:
            action(obj)


class Store:
    """The copy: objects by key, by namespace, and by the indexes that were added. The objects are shared: read only."""

    def __init__(self) -> None:
        self._objects: dict[Key, Object] = {}
        self._indexers: dict[str, Callable[[Object], Iterable[str]]] = {}
        self._indexes: dict[str, dict[str, dict[Key, Object]]] = {}
        self.add_index("namespace", lambda obj: (obj["metadata"].get("namespace", ""),))

    def __len__(self) -> int:
        return len(self._objects)

    def add_index(self, name: str, keys: Callable[[Object], Iterable[str]]) -> None:
        """Index the objects by ``keys(obj)``; what is there already is indexed at once."""
        self._indexers[name] = keys
        self._indexes[name] = {}
        for key, obj in self._objects.items():
            self._index(name, key, obj)

    def has_index(self, name: str) -> bool:
        return name in self._indexers

    def get(self, namespace: str, name: str) -> Object | None:
        return self._objects.get((namespace, name))

    def list(self, namespace: str | None = None) -> Objects:
        """All objects, or those of one namespace."""
        if namespace is None:
            return list(self._objects.values())
        return self.by_index("namespace", namespace)

    def by_index(self, name: str, value: str) -> Objects:
        return list(self._indexes[name].get(value, {}).values())

    def keys(self) -> Iterator[Key]:
        return iter(self._objects)

    def put(self, obj: Object) -> Object | None:
        """Add or replace; returns what was there."""
        key = store_key(obj)
        old = self._objects.get(key)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = obj
        for name in self._indexers:
            self._index(name, key, obj)
        return old

    def remove(self, key: Key) -> Object | None:
        old = self._objects.pop(key, None)
        if old is not None:
            self._unindex(key, old)
        return old

    def _index(self, name: str, key: Key, obj: Object) -> None:
        index = self._indexes[name]
        for value in self._indexers[name](obj):
            index.setdefault(value, {})[key] = obj

    def _unindex(self, key: Key, obj: Object) -> None:
        for name, keys in self._indexers.items():
            index = self._indexes[name]
            for value in keys(obj):
                entries = index.get(value)
                if entries is not None:
                    entries.pop(key, None)
                    if not entries:
                        del index[value]


class Informer:
    """Follows one resource (in one namespace or all, with selectors). ``run`` follows until it is cancelled."""

    def __init__(
        self,
        client: Client,
        resource: ResourcePath,
        clock: Clock,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Callable[[Object], Object] = without_managed_fields,
        rng: random.Random | None = None,
    ) -> None:
        self.resource = resource
        self.store = Store()
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._transform = transform
        self._rng = rng or random.Random()
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self._version = ""
        self._type = {"apiVersion": resource.api_version, "kind": ""}

    def add_index(self, name: str, keys: Callable[[Object], Iterable[str]]) -> None:
        self.store.add_index(name, keys)

    def add_handler(self, handler: Handler) -> None:
        """Notify ``handler`` of each object in the store, then of every change. If it raises it is notified again, some
        times; the other handlers are notified all the same."""
        self._handlers.append(handler)
        for obj in self.store.list():
            self._added(handler, obj, initial=True)

    @property
    def synced(self) -> bool:
        """Whether the first list is in the store."""
        return self._synced.is_set()

    @property
    def version(self) -> str:
        """The resource version up to which the store is."""
        return self._version

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """List and watch for ever."""
        delays = backoff(0.2, 2, 30)
        while True:
            started = self._clock.monotonic()
            try:
                await self._list()
                await self._follow()
            except errors.Gone:
                log.debug("%s: version %s is gone; listing again", self.resource.plural, self._version)
            except (errors.ApiError, ConnectionError, TimeoutError, ValueError) as error:
                log.warning("cannot follow %s: %s", self.resource.plural, error)
            if self._clock.monotonic() - started > 60:
                delays = backoff(0.2, 2, 30)
            await self._clock.sleep(next(delays) * (1 + self._rng.random()))

    async def _list(self) -> None:
        answer = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version="0",
        )
        self._version = answer["metadata"].get("resourceVersion", "")
        self._type["kind"] = answer.get("kind", "").removesuffix("List")
        gone = set(self.store.keys())
        for obj in answer.get("items") or []:
            obj.setdefault("kind", self._type["kind"])
            obj.setdefault("apiVersion", self._type["apiVersion"])
            gone.discard(store_key(obj))
            self._take(obj, initial=not self.synced)
        for key in gone:
            self._remove(key, None)
        self._synced.set()

    async def _follow(self) -> None:
        """Watch; a watch that ends in peace, or is cut, is resumed at the last version seen."""
        failures = 0
        while True:
            started = self._clock.monotonic()
            try:
                await self._watch()
            except (ConnectionError, TimeoutError) as error:
                log.debug("watch of %s was cut: %s", self.resource.plural, error)
            failures = 0 if self._clock.monotonic() - started > 5 else failures + 1
            if failures > 4:
                raise ConnectionError("the watch ends again and again")
            if failures > 1:
                await self._clock.sleep(0.1 * 2**failures * (1 + self._rng.random()))

    async def _watch(self) -> None:
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout=300 + 300 * self._rng.random(),
        )
        async for event in events:
            obj = event.object
            self._version = obj["metadata"].get("resourceVersion", self._version)
            if event.type in ("ADDED", "MODIFIED"):
                self._take(obj, initial=False)
            elif event.type == "DELETED":
                self._remove(store_key(obj), self._transformed(obj))

    def _take(self, obj: Object, *, initial: bool) -> None:
        """An object as the server shows it. One that the transform or an index fails on is left as it was known."""
        transformed = self._transformed(obj)
        if transformed is not None:
            contain(f"taking {self.resource.plural} {store_key(obj)}", self._put, transformed, initial=initial)

    def _transformed(self, obj: Object) -> Object | None:
        try:
            return self._transform(obj)
        except Exception:
            log.exception("%s %s cannot be read, and is left out", self.resource.plural, store_key(obj))
            return None

    def _put(self, obj: Object, *, initial: bool) -> None:
        old = self.store.put(obj)
        if old is None:
            for handler in self._handlers:
                self._added(handler, obj, initial=initial)
        elif old["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            for handler in self._handlers:
                self._updated(handler, old, obj)

    def _remove(self, key: Key, final: Object | None) -> None:
        old = self.store.remove(key)
        if old is not None:
            for handler in self._handlers:
                self._deleted(handler, final or old)

    # Handlers: an event that one raised at would be lost to it, so it has it again, with the object as it is then

    def _added(self, handler: Handler, obj: Object, *, initial: bool, tries: int = 0) -> None:
        if not contain(self._what, handler.added, obj, initial=initial):

            def again() -> None:
                if (current := self.store.get(*store_key(obj))) is not None:
                    self._added(handler, current, initial=initial, tries=tries + 1)

            self._later(again, tries)

    def _updated(self, handler: Handler, old: Object, new: Object, tries: int = 0) -> None:
        if not contain(self._what, handler.updated, old, new):

            def again() -> None:
                if (current := self.store.get(*store_key(new))) is not None:
                    self._updated(handler, old, current, tries + 1)

            self._later(again, tries)

    def _deleted(self, handler: Handler, obj: Object, tries: int = 0) -> None:
        if not contain(self._what, handler.deleted, obj):

            def again() -> None:
                if self.store.get(*store_key(obj)) is None:
                    self._deleted(handler, obj, tries + 1)

            self._later(again, tries)

    def _later(self, again: Callable[[], None], tries: int) -> None:
        if tries < _TRIES:
            asyncio.get_running_loop().call_later(2.0**tries, again)

    @property
    def _what(self) -> str:
        return f"a handler of {self.resource.plural}"


class InformerFactory:
    """One informer for each (resource, namespace, selectors), shared by all who ask."""

    def __init__(self, client: Client, clock: Clock, rng: random.Random | None = None) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng or random.Random()
        self._informers: dict[tuple[ResourcePath, str, str, str], Informer] = {}
        self._runner: Runner | None = None

    def informer(
        self, resource: ResourcePath, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer:
        """The shared informer for a resource and selectors, created (and started, if the factory runs) on first use."""
        key = (resource, namespace, label_selector, field_selector)
        if key not in self._informers:
            informer = self._informers[key] = Informer(
                self._client,
                resource,
                self._clock,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                rng=self._rng,
            )
            if self._runner is not None:
                self._start(informer)
        return self._informers[key]

    def existing(self, resource: ResourcePath) -> Informer | None:
        """The informer of all objects of a resource, if somebody asked for it."""
        return self._informers.get((resource, "", "", ""))

    async def run(self) -> None:
        """Run every informer, also those that are requested later, until cancelled."""
        async with Runner(self._clock, "informer ") as self._runner:
            try:
                for informer in list(self._informers.values()):
                    self._start(informer)
                await asyncio.Event().wait()
            finally:
                self._runner = None

    def _start(self, informer: Informer) -> None:
        assert self._runner is not None
        self._runner.supervise(informer.run, informer.resource.plural)

    async def wait_synced(self) -> None:
        """Wait until every informer has its first list."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()
