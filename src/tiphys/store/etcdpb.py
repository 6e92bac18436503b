"""The messages of etcd's API, from ``etcd.proto``, and their translation to and from ``backend``'s types.

Reading the schema costs some milliseconds and imports protobuf, so this module is imported where gRPC is used only.

Source: https://etcd.io/docs/v3.6/dev-guide/api_reference_v3/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any

from tiphys.store.backend import (
    Compare,
    CompareTarget,
    Delete,
    DeleteResult,
    Event,
    EventType,
    InvalidRequest,
    KeyValue,
    Operation,
    OperationResult,
    Put,
    PutResult,
    Range,
    RangeResult,
    SortTarget,
    Txn,
    TxnResult,
)
from tiphys.wire.protobuf import Schema

SCHEMA = Schema(files("tiphys.store").joinpath("etcd.proto").read_text(), "tiphys/store/etcd.proto")


class _Messages:
    """Message classes as attributes: ``pb.RangeRequest``."""

    def __getattr__(self, name: str) -> Any:
        message = SCHEMA.message(name)
        setattr(self, name, message)
        return message


pb: Any = _Messages()

_TARGETS = tuple(CompareTarget)
_TARGET_FIELDS = ("version", "create_revision", "mod_revision", "value", "lease")
_OPERATORS = ("=", ">", "<", "!=")
_SORTS = tuple(SortTarget)
DESCENDING = 2
_PIECE = 64
"""How many keys are encoded at a time."""


# From messages


def read_range(message: Any) -> Range:
    """A ``Range`` from its message. Raises ``InvalidRequest`` for an unknown sort order."""
    if message.sort_target >= len(_SORTS) or message.sort_order > DESCENDING:
        raise InvalidRequest("etcdserver: invalid sort option")
    return Range(
        message.key,
        message.range_end or None,
        message.revision,
        message.limit,
        message.keys_only,
        message.count_only,
        _SORTS[message.sort_target],
        message.sort_order == DESCENDING,
        message.min_mod_revision,
        message.max_mod_revision,
        message.min_create_revision,
        message.max_create_revision,
        message.serializable,
    )


def read_put(message: Any) -> Put:
    return Put(message.key, message.value, message.lease, message.prev_kv, message.ignore_value, message.ignore_lease)


def read_delete(message: Any) -> Delete:
    return Delete(message.key, message.range_end or None, message.prev_kv)


def read_txn(message: Any) -> Txn:
    return Txn(
        [_read_compare(compare) for compare in message.compare],
        [_read_operation(op) for op in message.success],
        [_read_operation(op) for op in message.failure],
    )


def _read_compare(message: Any) -> Compare:
    if message.target >= len(_TARGETS) or message.result >= len(_OPERATORS):
        raise InvalidRequest("etcdserver: unknown comparison")
    value = getattr(message, _TARGET_FIELDS[message.target])
    return Compare(message.key, _TARGETS[message.target], _OPERATORS[message.result], value, message.range_end or None)  # type: ignore[arg-type]


def _read_operation(message: Any) -> Operation:
    kind = message.WhichOneof("request")
    if kind == "request_put":
        return read_put(message.request_put)
    if kind == "request_range":
        return read_range(message.request_range)
    if kind == "request_delete_range":
        return read_delete(message.request_delete_range)
    if kind == "request_txn":
        return read_txn(message.request_txn)
    raise InvalidRequest("etcdserver: key not found")


def read_kv(message: Any) -> KeyValue:
    return KeyValue(
        message.key,
        message.value,
        message.create_revision,
        message.mod_revision,
        message.version,
        message.lease,
    )


def read_event(message: Any) -> Event:
    previous = read_kv(message.prev_kv) if message.HasField("prev_kv") else None
    return Event(EventType(message.type), read_kv(message.kv), previous)


def read_range_result(message: Any) -> RangeResult:
    return RangeResult([read_kv(kv) for kv in message.kvs], message.count, message.more, message.header.revision)


def read_put_result(message: Any) -> PutResult:
    return PutResult(read_kv(message.prev_kv) if message.HasField("prev_kv") else None, message.header.revision)


def read_delete_result(message: Any) -> DeleteResult:
    return DeleteResult(message.deleted, [read_kv(kv) for kv in message.prev_kvs], message.header.revision)


def read_txn_result(message: Any) -> TxnResult:
    revision = message.header.revision
    return TxnResult(message.succeeded, [_read_response(op, revision) for op in message.responses], revision)


def _read_response(message: Any, revision: int) -> OperationResult:
    kind = message.WhichOneof("response")
    if kind == "response_put":
        return read_put_result(message.response_put)
    if kind == "response_range":
        return read_range_result(message.response_range)
    if kind == "response_delete_range":
        return read_delete_result(message.response_delete_range)
    inner = message.response_txn  # etcd leaves its revision out
    return TxnResult(inner.succeeded, [_read_response(op, revision) for op in inner.responses], revision)


# To messages


def write_range(request: Range) -> Any:
    """The message for a ``Range``."""
    return pb.RangeRequest(
        key=request.key,
        range_end=request.end or b"",
        revision=request.revision,
        limit=request.limit,
        keys_only=request.keys_only,
        count_only=request.count_only,
        sort_target=request.sort.value,
        sort_order=DESCENDING if request.descending else 0,
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
        serializable=request.serializable,
    )


def write_put(request: Put) -> Any:
    return pb.PutRequest(
        key=request.key,
        value=request.value,
        lease=request.lease,
        prev_kv=request.prev_kv,
        ignore_value=request.ignore_value,
        ignore_lease=request.ignore_lease,
    )


def write_delete(request: Delete) -> Any:
    return pb.DeleteRangeRequest(key=request.key, range_end=request.end or b"", prev_kv=request.prev_kv)


def write_txn(request: Txn) -> Any:
    return pb.TxnRequest(
        compare=[_write_compare(compare) for compare in request.compare],
        success=[_write_operation(op) for op in request.success],
        failure=[_write_operation(op) for op in request.failure],
    )


def _write_compare(compare: Compare) -> Any:
    message = pb.Compare(
        key=compare.key,
        range_end=compare.end or b"",
        target=compare.target.value,
        result=_OPERATORS.index(compare.op),
    )
    setattr(message, _TARGET_FIELDS[compare.target.value], compare.value)
    return message


def _write_operation(op: Operation) -> Any:
    if isinstance(op, Put):
        return pb.RequestOp(request_put=write_put(op))
    if isinstance(op, Range):
        return pb.RequestOp(request_range=write_range(op))
    if isinstance(op, Delete):
        return pb.RequestOp(request_delete_range=write_delete(op))
    return pb.RequestOp(request_txn=write_txn(op))


def write_kv(kv: KeyValue) -> Any:
    return pb.KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def write_event(event: Event) -> Any:
    message = pb.Event(type=event.type.value, kv=write_kv(event.kv))
    if event.prev_kv is not None:
        message.prev_kv.CopyFrom(write_kv(event.prev_kv))
    return message


def write_kvs(kvs: Iterable[KeyValue]) -> list[Any]:
    return [write_kv(kv) for kv in kvs]


def encode_range_response(header: Any, kvs: Sequence[KeyValue], **others: Any) -> bytes:
    """A ``RangeResponse`` of many keys, encoded in pieces: messages that follow each other are one.

    Each piece stays small, as the runtime is slow if it must find room for a large one: a third of the time for 500
    keys of 1 KB.
    """
    pieces = [pb.RangeResponse(header=header, **others).SerializeToString()]
    for start in range(0, len(kvs), _PIECE):
        piece = pb.RangeResponse()
        add = piece.kvs.add
        for key, value, create, modified, version, lease in kvs[start : start + _PIECE]:
            add(key=key, value=value, create_revision=create, mod_revision=modified, version=version, lease=lease)
        pieces.append(piece.SerializeToString())
    return b"".join(pieces)
