"""How an object is kept: as its final JSON bytes, with the few values beside them that selectors need.

The store holds upstream's JSON: the object at its storage version, without a resource version, as the revision of the
store is the resource version. ``Codec`` splices it in. What an ``Entry`` keeps lacks the leading ``kind`` and
``apiVersion``, since items of a list have none: a read adds them in front, a list joins what is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import orjson

from tiphys.api import codec, protobuf
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import Resource
from tiphys.apiserver.storage.fields import Field, Fields
from tiphys.apiserver.storage.foreign import check_metadata, in_version, read_value
from tiphys.store.backend import KeyValue

if TYPE_CHECKING:
    from tiphys.apiserver.storage.glance import Glance

_UID = b'"uid":"'
_UID_LENGTH = 36
_KEPT_AS_JSON = ("apiextensions.k8s.io", "apiregistration.k8s.io")
"""Groups that upstream does not store as protobuf, besides custom resources."""


class Entry:
    """One object at one revision. ``body`` is the JSON text behind ``{"kind":…,"apiVersion":…,``; ``message`` its
    protobuf message, once somebody asked for it."""

    __slots__ = (
        "body",
        "create_revision",
        "fields",
        "key",
        "labels",
        "lease",
        "message",
        "name",
        "namespace",
        "revision",
    )

    def __init__(
        self,
        key: str,
        namespace: str,
        name: str,
        labels: dict[str, str],
        fields: Fields,
        body: bytes,
        revision: int,
        create_revision: int = 0,
        lease: int = 0,
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.name = name
        self.labels = labels
        self.fields = fields
        self.body = body
        self.revision = revision
        self.create_revision = create_revision
        self.lease = lease
        self.message: bytes | None = None


class Draft:
    """An object on its way into the store: its JSON, its value there, and what was read from it for selectors."""

    __slots__ = ("fields", "labels", "stored", "value")

    def __init__(self, value: bytes, labels: dict[str, str], fields: Fields, stored: bytes | None = None) -> None:
        """``stored`` is the value in the store if that is another than the JSON."""
        self.value = value
        self.stored = value if stored is None else stored
        self.labels = labels
        self.fields = fields


_MANY = 300
"""So many values of a resource are read whole before the others get a glance only."""
_NO_LABELS: dict[str, str] = {}
_FIRST = ("name", "generateName", "namespace", "uid", "generation", "creationTimestamp")


def _as_go_writes(value: bytes) -> bytes:
    """Strings escaped as Go does: its controllers compare the data of revisions byte by byte with what they write."""
    return value.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")


class Codec:
    """Turns objects of one resource, in its storage version, into stored values and entries, and back.

    Values are JSON or, ``as_protobuf``, upstream's default form of built-in kinds. ``select`` reads the fields for
    selectors from an object; if it reads no more of it than some ``fields``, many values are not read whole.
    """

    def __init__(
        self,
        resource: Resource,
        select: Callable[[Object], Fields],
        *,
        fields: Sequence[Field] | None = None,
        as_protobuf: bool = False,
    ) -> None:
        gvk = resource.gvk(resource.storage_version)
        self.resource = resource
        self.head = b'{"kind":"%s","apiVersion":"%s",' % (gvk.kind.encode(), gvk.api_version.encode())
        self._kind = gvk.kind
        self._api_version = gvk.api_version
        self._start = self.head + b'"metadata":{'
        self._select = select
        self._escapes = gvk.kind == "ControllerRevision"
        self._settles = resource.builtin and gvk.group not in _KEPT_AS_JSON
        self._gvk = gvk
        self._as_protobuf = as_protobuf and self._settles
        self._fields = None if self._escapes else fields
        self._glance: Glance | None = None
        self._until_glance = _MANY

    def draft(self, obj: Object) -> Draft:
        """Encode for the store, without the resource version. ``obj`` becomes what is read back."""
        if self._settles:
            codec.settle(obj, schema_for(self._gvk))
        meta = obj["metadata"]
        value = codec.encode({**obj, "metadata": _in_order(meta)})
        if self._escapes:
            value = _as_go_writes(value)
        stored = protobuf.encode(obj) if self._as_protobuf else None
        return Draft(value, meta.get("labels") or _NO_LABELS, self._select(obj), stored)

    def entry(
        self,
        key: str,
        value: bytes,
        revision: int,
        draft: Draft | None = None,
        create_revision: int = 0,
        lease: int = 0,
    ) -> Entry:
        """What is kept of a stored value. ``draft``, if this process wrote it, saves reading the value."""
        if draft is not None:
            value = draft.value
        if draft is None or not value.startswith(self._start):
            draft = self._read(value)
            value = draft.value
        namespace, name = _place(key, namespaced=self.resource.namespaced)
        body = self._splice(value, revision)
        return Entry(key, namespace, name, draft.labels, draft.fields, body, revision, create_revision, lease)

    def entries(self, kvs: Sequence[KeyValue]) -> list[Entry | None]:
        """What is kept of many values, in the order of their keys: None for each that ``entry`` has to read.

        In one piece, as a start does it for all that the store has.
        """
        glance = self._glance_for(len(kvs))
        if glance is None:
            return [None] * len(kvs)
        entries: list[Entry | None] = []
        add, head, namespaced, place, namespace = entries.append, len(self.head), self.resource.namespaced, "", ""
        for kv, seen in zip(kvs, glance.many([kv.value for kv in kvs]), strict=True):
            if seen is None:
                add(None)
                continue
            raw, value, create, revision, _, lease = kv
            labels, fields, end = seen
            key = raw.decode("utf-8", "backslashreplace")
            before, _, name = key.rpartition("/")
            if namespaced and before != place:
                place, (namespace, _) = before, _place(key, namespaced=True)
            body = b'%b,"resourceVersion":"%d"%b' % (value[head:end], revision, value[end:])
            add(Entry(key, namespace, name, labels or _NO_LABELS, fields, body, revision, create, lease))
        return entries

    def _read(self, value: bytes) -> Draft:
        """The draft of a value that is in the store. Raises ``CannotRead``."""
        if (glance := self._glance_for(1)) is not None and (seen := glance(value)) is not None:
            return Draft(value, seen[0] or _NO_LABELS, seen[1])
        obj = self._parse(value)
        check_metadata(obj)
        return self.draft(obj)

    def _glance_for(self, values: int) -> Glance | None:
        """What sees at a glance what selectors need, if it can be seen so, once there are many values to look at."""
        if self._glance is None:
            self._until_glance -= values
            if self._until_glance > 0 or self._fields is None:
                return None
            from tiphys.apiserver.storage.glance import Glance  # a library that only many values are worth

            self._glance = Glance(self._start, self._fields)
        return self._glance

    def object(self, entry: Entry) -> Object:
        """The object as a new dict, with its resource version."""
        obj: Object = orjson.loads(self.head + entry.body)
        return obj

    def encoded(self, entry: Entry) -> bytes:
        return self.head + entry.body

    def _parse(self, value: bytes) -> Object:
        """The object in a value that this process has not written. Raises ``CannotRead``."""
        if value.startswith(self._start):
            obj: Object = orjson.loads(value)
            return obj
        return self._shaped(read_value(value))

    def _shaped(self, obj: Object) -> Object:
        """An object that another server has written, in the shape in which this one keeps it."""
        head = {"kind": self._kind, "apiVersion": self._api_version}
        return in_version({**head, "metadata": {}, **obj}, self._gvk)

    def _splice(self, value: bytes, revision: int) -> bytes:
        """The value without its head, and with the resource version behind the uid, where upstream has it."""
        start = len(self._start)
        at = value.find(_UID, start)
        if at < 0 or value[at + len(_UID) + _UID_LENGTH : at + len(_UID) + _UID_LENGTH + 1] != b'"':
            comma = b"" if value[start : start + 1] == b"}" else b","
            return b'"metadata":{"resourceVersion":"%d"%b%b' % (revision, comma, value[start:])
        end = at + len(_UID) + _UID_LENGTH + 1
        return b'%b,"resourceVersion":"%d"%b' % (value[len(self.head) : end], revision, value[end:])


def _in_order(meta: Object) -> Object:
    """Metadata with what names the object in front: the first uid in the text is then the object's own, not that of an
    owner, and the resource version goes behind it."""
    ordered = {name: meta[name] for name in _FIRST if name in meta}
    ordered.update(meta)
    ordered.pop("resourceVersion", None)
    return ordered


def _place(key: str, *, namespaced: bool) -> tuple[str, str]:
    head, _, name = key.rpartition("/")
    return (sys.intern(head.rpartition("/")[2]) if namespaced else ""), name
