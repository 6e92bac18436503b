"""Which events are worth writing, and as what: pure decisions of the event recorder.

An event about one object that repeats word for word becomes one Event with a growing ``count``. Ten that differ in
their message only, within ten minutes, continue as one "(combined from similar events)". More than 25 of one kind about
one object, refilled by one in five minutes, are dropped. These are client-go's rules, which users see in ``kubectl
describe``. Source: https://pkg.go.dev/k8s.io/client-go/tools/record
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from tiphys.api.object import Object

CACHE_SIZE = 4096
MAX_SIMILAR = 10
SIMILAR_WITHIN = 600.0
SPAM_BURST = 25.0
SPAM_RATE = 1.0 / 300.0

V = TypeVar("V")
Key = tuple[str, ...]


class Recent(Generic[V]):
    """The values that were put or got last, up to a number."""

    def __init__(self, size: int = CACHE_SIZE) -> None:
        self._size = size
        self._values: OrderedDict[Key, V] = OrderedDict()

    def get(self, key: Key) -> V | None:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        return None

    def put(self, key: Key, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Happening:
    """One event as it was reported, before it is counted with others. ``name`` is of the Event to make for it."""

    component: str
    host: str
    involved: Object
    type: str
    reason: str
    message: str
    time: float
    name: str
    action: str = ""
    related: Object | None = None
    annotations: Object = field(default_factory=dict)

    @property
    def object_key(self) -> Key:
        o = self.involved
        parts = (o.get(part, "") for part in ("kind", "namespace", "name", "uid", "apiVersion"))
        return (self.component, self.host, *parts, self.type)

    @property
    def similar_key(self) -> Key:
        return (*self.object_key, self.reason)

    @property
    def full_key(self) -> Key:
        return (*self.similar_key, self.involved.get("fieldPath", ""), self.message)


@dataclass(frozen=True, slots=True)
class Record:
    """What to write: a new Event, or if ``count`` is above one, more of the Event called ``happening.name``."""

    happening: Happening
    count: int
    first: float


@dataclass(slots=True)
class _Similar:
    messages: dict[str, None]
    last: float


@dataclass(slots=True)
class _Bucket:
    tokens: float
    updated: float


class Correlator:
    """Decides for each happening: a new Event, one more of an Event, or nothing (None)."""

    def __init__(self) -> None:
        self._similar: Recent[_Similar] = Recent()
        self._spam: Recent[_Bucket] = Recent()
        self._seen: Recent[Record] = Recent()

    def correlate(self, happening: Happening) -> Record | None:
        happening, key = self._aggregate(happening)
        record = self._count(happening, key)
        return record if self._accept(happening) else None

    def _aggregate(self, happening: Happening) -> tuple[Happening, Key]:
        similar = self._similar.get(happening.similar_key)
        if similar is None or happening.time - similar.last > SIMILAR_WITHIN:
            similar = _Similar({}, happening.time)
        similar.messages[happening.message] = None
        similar.last = happening.time
        self._similar.put(happening.similar_key, similar)
        if len(similar.messages) < MAX_SIMILAR:
            return happening, happening.full_key
        similar.messages.pop(next(iter(similar.messages)))
        combined = f"(combined from similar events): {happening.message}"
        return replace(happening, message=combined), happening.similar_key

    def _count(self, happening: Happening, key: Key) -> Record:
        seen = self._seen.get(key)
        if seen is None:
            record = Record(happening, 1, happening.time)
        else:
            record = Record(replace(happening, name=seen.happening.name), seen.count + 1, seen.first)
        self._seen.put(key, record)
        return record

    def _accept(self, happening: Happening) -> bool:
        bucket = self._spam.get(happening.object_key) or _Bucket(SPAM_BURST, happening.time)
        bucket.tokens = min(SPAM_BURST, bucket.tokens + (happening.time - bucket.updated) * SPAM_RATE)
        bucket.updated = happening.time
        accepted = bucket.tokens >= 1
        if accepted:
            bucket.tokens -= 1
        self._spam.put(happening.object_key, bucket)
        return accepted
