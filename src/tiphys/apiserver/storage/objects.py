"""``ObjectStore``: one resource's objects in the store: reads at a revision, and writes, each a compare-and-write.

Expected outcomes are exceptions of this module, as every caller must treat them: ``Exists``, ``Stale``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.api.meta.names import path_segment_name
from tiphys.api.object import Object
from tiphys.apiserver.aside import BIG, aside
from tiphys.apiserver.storage.cacher import CHEAP_SECONDS, Cacher, NotReady, Unreadable
from tiphys.apiserver.storage.changes import at_revision
from tiphys.apiserver.storage.entry import Codec, Draft, Entry
from tiphys.apiserver.storage.feed import TooLargeRevision
from tiphys.apiserver.storage.leases import Leases
from tiphys.apiserver.storage.selection import Selection
from tiphys.store.backend import (
    Backend,
    Compare,
    CompareTarget,
    Delete,
    Put,
    Range,
    Txn,
    prefix_end,
)

MustRewrite = Callable[[str, int], bool]
_NEAR = 64
"""How exactly it is found where two texts differ, in bytes."""


def _never(key: str, revision: int) -> bool:
    return False


class Exists(Exception):
    """There is an object under this key already."""


class Stale(Exception):
    """The object is not, or no longer, at the revision that the write is based on."""


class ObjectStore:
    """``must_rewrite`` says whether the value of a key at a revision is to be written although nothing changes."""

    def __init__(
        self,
        *,
        prefix: str,
        namespaced: bool,
        codec: Codec,
        cacher: Cacher,
        leases: Leases,
        must_rewrite: MustRewrite | None = None,
    ) -> None:
        self.prefix = prefix
        self.codec = codec
        self.cacher = cacher
        self.namespaced = namespaced
        self.leases = leases
        self._must_rewrite = must_rewrite or _never
        self._backend: Backend = cacher.feed.backend

    def key(self, namespace: str, name: str) -> str:
        """Raises 400 for a name that would lead elsewhere."""
        if wrong := path_segment_name(name):
            raise errors.bad_request(f"Name parameter invalid: {quote(name)}: {';'.join(wrong)}")
        return f"{self.prefix}{namespace}/{name}" if self.namespaced else self.prefix + name

    def place(self, namespace: str) -> str:
        """The prefix of the keys of one namespace, or of all."""
        return f"{self.prefix}{namespace}/" if self.namespaced and namespace else self.prefix

    # -- reads

    async def get(self, namespace: str, name: str) -> Entry | None:
        """The object as of now: every write that returned before the call is seen."""
        key = self.key(namespace, name)
        try:
            await self.cacher.ready(CHEAP_SECONDS)
            await self.cacher.feed.fresh()
        except (NotReady, TooLargeRevision):
            return await self._stored(key)
        return self.cacher.get(key)

    async def _stored(self, key: str) -> Entry | None:
        """The object as the store has it, past a cache that is being filled or does not keep up. Raises 500 if it
        cannot be read."""
        answer = await self._backend.range(Range(key.encode()))
        return self.cacher.read(answer.kvs[0]) if answer.kvs else None

    async def cached(self, namespace: str, name: str) -> Entry | None:
        """The object as far as the cache knows it; possibly a moment old."""
        await self.cacher.ready()
        return self.cacher.get(self.key(namespace, name))

    async def select(self, selection: Selection) -> Sequence[Entry]:
        """The entries that match now, as far as the cache knows."""
        return self.cacher.select(selection)

    async def page(
        self, prefix: str, after: str, revision: int, limit: int
    ) -> tuple[list[Entry | Unreadable], int, bool, int]:
        """Read from the store's history: entries, how many there are from ``after`` on, whether more, the revision."""
        start = max(prefix, after).encode()
        answer = await self._backend.range(Range(start, prefix_end(prefix.encode()), revision=revision, limit=limit))
        return [self.cacher.parse(kv) for kv in answer.kvs], answer.count, answer.more, answer.revision

    # -- writes

    async def create(self, key: str, obj: Object, ttl: int = 0) -> Entry:
        """Raises ``Exists``. ``ttl`` in seconds, 0 for ever. The cache is there first: a watch may start from here."""
        await self.cacher.ready()
        draft = self.codec.draft(obj)
        lease = await self.leases.lease(ttl) if ttl else 0
        revision = await self._put(key, draft, 0, lease)
        if revision is None:
            raise Exists(key)
        return self.codec.entry(key, draft.value, revision, draft, revision, lease)

    async def update(self, key: str, old: Entry, obj: Object, ttl: int = 0) -> Entry:
        """Replace ``old``. If nothing would change nothing is written. Raises ``Stale``."""
        draft = self.codec.draft(obj)
        if await self._unchanged(key, old, draft) and not self._must_rewrite(key, old.revision):
            return old
        lease = await self.leases.lease(ttl) if ttl else 0
        revision = await self._put(key, draft, old.revision, lease)
        if revision is None:
            raise Stale(key)
        return self.codec.entry(key, draft.value, revision, draft, old.create_revision, lease)

    async def _unchanged(self, key: str, old: Entry, draft: Draft) -> bool:
        """Whether the object is the same; its keys may have come in another order."""
        body = self.codec.entry(key, draft.value, old.revision, draft).body
        if body == old.body or len(body) != len(old.body):
            return body == old.body
        first, end = _differing(body, old.body)
        if _sum(body[first:end]) != _sum(old.body[first:end]):
            return False
        if len(body) < BIG:
            return _same(body, old.body)
        return await aside(lambda: _same(body, old.body))

    async def _put(self, key: str, draft: Draft, expected: int, lease: int) -> int | None:
        """The new revision, or None if the key's is not the expected one."""
        raw = key.encode()
        compare = Compare(raw, CompareTarget.MOD, "=", expected)
        self.cacher.expect(key, draft)
        try:
            result = await self._backend.txn(Txn((compare,), (Put(raw, draft.stored, lease),)))
        except BaseException:  # also a cancellation: nobody knows whether it was written
            self.cacher.forget(key, draft)
            raise
        if result.succeeded:
            return result.revision
        self.cacher.forget(key, draft)
        return None

    async def delete(self, key: str, old: Entry) -> Entry:
        """Remove ``old``; gives it at the revision of its deletion. Raises ``Stale``."""
        raw = key.encode()
        compare = Compare(raw, CompareTarget.MOD, "=", old.revision)
        result = await self._backend.txn(Txn((compare,), (Delete(raw),)))
        if not result.succeeded:
            raise Stale(key)
        return at_revision(old, result.revision)


def _differing(one: bytes, other: bytes) -> tuple[int, int]:
    """About where two texts of one length differ: all before and behind is the same."""
    first, behind = 0, len(one)
    while behind - first > _NEAR:
        middle = (first + behind) // 2
        if one[first:middle] == other[first:middle]:
            first = middle
        else:
            behind = middle
    before, end = first, len(one)
    while end - before > _NEAR:
        middle = (before + end) // 2
        if one[middle:end] == other[middle:end]:
            end = middle
        else:
            before = middle
    return first, end


def _sum(body: bytes) -> int:
    """The sum of the bytes, less multiples of 255: the same in whatever order keys come, and found in a quarter of the
    time that reading takes."""
    return int.from_bytes(body, "big") % 255


def _same(one: bytes, other: bytes) -> bool:
    """Whether two objects' texts without their opening braces have one value."""
    return bool(orjson.loads(b"{" + one) == orjson.loads(b"{" + other))
