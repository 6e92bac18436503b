"""Custom resources that a webhook converts: kept in the versions in which they were written, shown in any.

``StoredEntry`` is an object in the version that it has in the store, and remembers what it was converted to.
``ConvertedStore`` is an ``ObjectStore`` of one version: what is read is converted to it, what is written from it to the
storage version, both between the store and everything above, as upstream has it. The cache below is shared by all
versions; each object is converted once to each version that somebody asks for, and a conversion that fails is an error
of those requests and watches that need it.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tiphys.api.object import Object
from tiphys.apiserver.storage.changes import at_revision
from tiphys.apiserver.storage.entry import Codec, Draft, Entry
from tiphys.apiserver.storage.objects import ObjectStore
from tiphys.apiserver.storage.selection import Selection


class StoredEntry(Entry):
    """``version`` is that of the store; ``forms`` holds other versions of it, or who is making them, by version."""

    __slots__ = ("forms", "version")

    version: str
    forms: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry, version: str) -> StoredEntry:
        made = cls(*_parts(entry))
        made.version, made.forms = version, {}
        return made


class ConvertedEntry(Entry):
    """An object in another version than that of the store; ``stored`` is it there."""

    __slots__ = ("stored",)

    stored: StoredEntry

    @classmethod
    def of_stored(cls, entry: Entry, stored: StoredEntry) -> ConvertedEntry:
        made = cls(*_parts(entry))
        made.stored = stored
        return made


def _parts(entry: Entry) -> tuple[Any, ...]:
    head = (entry.key, entry.namespace, entry.name, entry.labels, entry.fields, entry.body)
    return (*head, entry.revision, entry.create_revision, entry.lease)


class Conversions(Protocol):
    """Who converts the objects of one custom resource."""

    async def entries(self, entries: Sequence[Entry], version: str) -> list[Entry]:
        """Entries of the store in a version, in the same order. Raises ``StatusError``."""
        ...

    async def object(self, obj: Object, version: str) -> Object:
        """An object in another version. Raises ``StatusError``."""
        ...


class StoredStore(ObjectStore):
    """The objects in the versions that they have in the store."""

    conversions: Conversions

    def in_version(self, version: str, storage_version: str, codec: Codec) -> ConvertedStore:
        return ConvertedStore(self, version, storage_version, codec)

    async def _unchanged(self, key: str, old: Entry, draft: Draft) -> bool:
        """An object in another version is another one, whatever its fields are."""
        new = self.codec.entry(key, draft.value, old.revision, draft)
        assert isinstance(new, StoredEntry)
        return new.version == stored_of(old).version and await super()._unchanged(key, old, draft)


class ConvertedStore(ObjectStore):
    """``codec`` is that of ``version``."""

    def __init__(self, stored: StoredStore, version: str, storage_version: str, codec: Codec) -> None:
        super().__init__(
            prefix=stored.prefix,
            namespaced=stored.namespaced,
            codec=codec,
            cacher=stored.cacher,
            leases=stored.leases,
        )
        self.stored = stored
        self._version = version
        self._storage_version = storage_version

    def narrow(self, selection: Selection) -> Selection:
        """What of a selection holds in every version: names, which a conversion cannot change."""
        terms = tuple(term for term in selection.terms if term.position < 0)
        key = (*selection.key, "stored")
        return Selection(selection.prefix, selection.namespace, None, terms, key)

    async def shown(self, entries: Sequence[Entry]) -> list[Entry]:
        """Entries of the store in the version of this one. Raises ``StatusError``."""
        return await self.stored.conversions.entries(entries, self._version)

    async def _shown(self, entry: Entry | None) -> Entry | None:
        return None if entry is None else (await self.shown((entry,)))[0]

    async def _to_store(self, obj: Object) -> Object:
        if self._version == self._storage_version:
            return obj
        return await self.stored.conversions.object(obj, self._storage_version)

    # -- reads

    async def get(self, namespace: str, name: str) -> Entry | None:
        return await self._shown(await self.stored.get(namespace, name))

    async def cached(self, namespace: str, name: str) -> Entry | None:
        return await self._shown(await self.stored.cached(namespace, name))

    async def select(self, selection: Selection) -> list[Entry]:
        entries = await self.shown(self.cacher.select(self.narrow(selection)))
        return [entry for entry in entries if selection.matches(entry)]

    # -- writes

    async def create(self, key: str, obj: Object, ttl: int = 0) -> Entry:
        entry = await self._shown(await self.stored.create(key, await self._to_store(obj), ttl))
        assert entry is not None
        return entry

    async def update(self, key: str, old: Entry, obj: Object, ttl: int = 0) -> Entry:
        """As ``ObjectStore.update``; ``old`` and ``obj`` are in the version of this store."""
        before = stored_of(old)
        written = await self.stored.update(key, before, await self._to_store(obj), ttl)
        if written is before:
            return old
        entry = await self._shown(written)
        assert entry is not None
        return entry

    async def delete(self, key: str, old: Entry) -> Entry:
        gone = await self.stored.delete(key, stored_of(old))
        return at_revision(old, gone.revision)


def stored_of(entry: Entry) -> StoredEntry:
    """An entry as the store has it."""
    if isinstance(entry, ConvertedEntry):
        return entry.stored
    assert isinstance(entry, StoredEntry)
    return entry
