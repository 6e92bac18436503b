"""``Backend``: the one interface between the API server and whatever keeps its data.

The data model is etcd's v3 (https://etcd.io/docs/v3.6/learning/data_model/): a flat space of byte keys; every change of
the store gets the next revision; a key has its create revision, last modification revision and a version that counts
its changes since it was created; past revisions can be read until they are compacted. Implementations: the MVCC core in
memory (``store.memory``), the embedded durable engine (``store.sqlite``), and etcd by gRPC (``store.etcdclient``).
One contract suite, ``tests/contract/test_backend.py``, runs against every one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple, Protocol

# Requests and results are not frozen, though nobody changes one: freezing makes them five times as dear to make.


class KeyValue(NamedTuple):
    """One key at one revision. A named tuple, as a list makes thousands of them."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


class SortTarget(Enum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class CompareTarget(Enum):
    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


@dataclass(slots=True)
class Range:
    """Read ``[key, end)``; ``end=None`` means the one key, ``end=b"\\0"`` everything from ``key`` on."""

    key: bytes
    end: bytes | None = None
    revision: int = 0
    """Read as of this revision; 0 means now."""
    limit: int = 0
    keys_only: bool = False
    count_only: bool = False
    sort: SortTarget = SortTarget.KEY
    descending: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0
    serializable: bool = False
    """Allow a possibly stale answer from any member; the default is linearizable."""


@dataclass(slots=True)
class RangeResult:
    """``count`` is the number of keys in the range whatever the limit; ``revision`` the store's when it was read."""

    kvs: Sequence[KeyValue]
    count: int
    more: bool
    revision: int


@dataclass(slots=True)
class Put:
    key: bytes
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


@dataclass(slots=True)
class Delete:
    """Delete ``[key, end)``, as in ``Range``."""

    key: bytes
    end: bytes | None = None
    prev_kv: bool = False


@dataclass(slots=True)
class PutResult:
    prev_kv: KeyValue | None
    revision: int


@dataclass(slots=True)
class DeleteResult:
    deleted: int
    prev_kvs: Sequence[KeyValue]
    revision: int


@dataclass(slots=True)
class Compare:
    """A condition of a transaction: ``key``'s ``target`` ``op`` ``value`` (bytes for VALUE, an int for the others).

    With ``end`` it must hold for every key in ``[key, end)``. A key that does not exist has version, revisions and
    lease 0; its value equals nothing.
    """

    key: bytes
    target: CompareTarget
    op: Literal["=", "!=", "<", ">"]
    value: int | bytes
    end: bytes | None = None


@dataclass(slots=True)
class Txn:
    """If every comparison holds do ``success``, otherwise ``failure``: atomically, in one revision."""

    compare: Sequence[Compare] = ()
    success: Sequence[Operation] = ()
    failure: Sequence[Operation] = ()


Operation = Range | Put | Delete | Txn


@dataclass(slots=True)
class TxnResult:
    """``responses`` answers the operations of the branch that was taken, in order."""

    succeeded: bool
    responses: Sequence[OperationResult]
    revision: int


OperationResult = RangeResult | PutResult | DeleteResult | TxnResult


class EventType(Enum):
    PUT = 0
    DELETE = 1


class Event(NamedTuple):
    """A change of one key. For DELETE ``kv`` holds the key and the revision of the deletion, and an empty value."""

    type: EventType
    kv: KeyValue
    prev_kv: KeyValue | None = None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in revision order; all events of one revision come in one batch, unless fragments were requested.

    A batch without events is a progress notification: every event up to ``revision`` has been delivered.
    """

    revision: int
    events: Sequence[Event] = field(default_factory=tuple)
    fragment: bool = False
    """Whether more events of the same revision follow."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Watch ``[key, end)`` from ``start_revision`` on (0: from the next change)."""

    key: bytes
    end: bytes | None = None
    start_revision: int = 0
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    progress_notify: bool = False
    fragment: bool = False


class Watch(Protocol):
    """An open watch. Iterate over it; the iteration raises ``Compacted`` if the start revision is gone.

    It never drops events silently: if the reader is too slow, the watch catches up from the store's history.
    """

    def __aiter__(self) -> AsyncIterator[WatchBatch]: ...

    async def request_progress(self) -> None:
        """Ask for a progress notification."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """``ttl`` is what is left, in seconds, -1 if the lease is gone; ``granted_ttl`` what was granted."""

    id: int
    ttl: int
    granted_ttl: int
    keys: Sequence[bytes] = ()


class Backend(Protocol):
    """A consistent key-value store. A write that returned is durable; a read sees every write that returned before."""

    async def range(self, request: Range) -> RangeResult: ...

    async def put(self, request: Put) -> PutResult: ...

    async def delete(self, request: Delete) -> DeleteResult: ...

    async def txn(self, request: Txn) -> TxnResult: ...

    async def watch(self, request: WatchRequest) -> Watch: ...

    async def compact(self, revision: int, *, physical: bool = False) -> int:
        """Forget the history before ``revision``; returns the store's revision. ``physical``: wait until it is done."""
        ...

    async def current_revision(self) -> int: ...

    async def lease_grant(self, ttl: int, id: int = 0) -> LeaseStatus:
        """``ttl`` in seconds; ``id`` 0 lets the store choose."""
        ...

    async def lease_revoke(self, id: int) -> int:
        """Delete the lease and its keys; returns the revision."""
        ...

    async def lease_keep_alive(self, id: int) -> LeaseStatus: ...

    async def lease_status(self, id: int, *, keys: bool = False) -> LeaseStatus: ...

    async def leases(self) -> Sequence[int]: ...

    async def healthy(self) -> None:
        """Return if a write could be done now; otherwise raise a ``StoreError`` that says why not."""
        ...

    async def close(self) -> None: ...


class StoreError(Exception):
    """A store failure. The message is etcd's if etcd has one."""


class Compacted(StoreError):
    """The revision requested has been compacted. ``compact_revision`` is the oldest that is kept."""

    def __init__(self, compact_revision: int) -> None:
        super().__init__("etcdserver: mvcc: required revision has been compacted")
        self.compact_revision = compact_revision


class FutureRevision(StoreError):
    """The revision requested does not exist yet."""

    def __init__(self) -> None:
        super().__init__("etcdserver: mvcc: required revision is a future revision")


class LeaseNotFound(StoreError):
    def __init__(self) -> None:
        super().__init__("etcdserver: requested lease not found")


class LeaseExists(StoreError):
    def __init__(self) -> None:
        super().__init__("etcdserver: lease already exists")


class NoSpace(StoreError):
    """Writes are refused until there is room again (etcd's NOSPACE alarm)."""

    def __init__(self) -> None:
        super().__init__("etcdserver: mvcc: database space exceeded")


class Unavailable(StoreError):
    """The store cannot be reached now; the same call may go through later. A write may or may not have been done."""


class InvalidRequest(StoreError):
    """The request can never be answered (a duplicate key in one transaction, an empty key, too many operations)."""


def prefix_end(prefix: bytes) -> bytes:
    """The ``end`` that makes ``[prefix, end)`` hold every key that starts with ``prefix``."""
    for i in range(len(prefix) - 1, -1, -1):
        if prefix[i] < 0xFF:
            return prefix[:i] + bytes([prefix[i] + 1])
    return b"\0"
