"""Which requests can never be answered, checked before anything is done; the messages are etcd's.

Source: https://etcd.io/docs/v3.6/learning/data_model/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.store.backend import Compare, Delete, InvalidRequest, Operation, Put, Range, Txn

MAX_OPERATIONS = 128
MAX_REQUEST_BYTES = 1536 * 1024

EMPTY_KEY = "etcdserver: key is not provided"
KEY_NOT_FOUND = "etcdserver: key not found"
DUPLICATE_KEY = "etcdserver: duplicate key given in txn request"
TOO_MANY_OPERATIONS = "etcdserver: too many operations in txn request"
TOO_LARGE = "etcdserver: request is too large"

Span = tuple[bytes, bytes | None]


def check_put(put: Put) -> None:
    if not put.key:
        raise InvalidRequest(EMPTY_KEY)
    if put.ignore_value and put.value:
        raise InvalidRequest("etcdserver: value is provided")
    if put.ignore_lease and put.lease:
        raise InvalidRequest("etcdserver: lease is provided")
    if len(put.key) + len(put.value) > MAX_REQUEST_BYTES:
        raise InvalidRequest(TOO_LARGE)


def check_key(request: Range | Delete | Compare) -> None:
    if not request.key:
        raise InvalidRequest(EMPTY_KEY)


def check_txn(txn: Txn) -> None:
    """Keys, number of operations, total size, and that no key is written twice."""
    if _check_shape(txn, MAX_OPERATIONS) > MAX_REQUEST_BYTES:
        raise InvalidRequest(TOO_LARGE)
    for branch in (txn.success, txn.failure):
        if len(branch) > 1 or (branch and type(branch[0]) is Txn):
            _written(branch)


def _check_shape(txn: Txn, allowed: int) -> int:
    """Check each operation by itself; returns the bytes of keys and values."""
    used = max(len(txn.compare), len(txn.success), len(txn.failure))
    if used > allowed:
        raise InvalidRequest(TOO_MANY_OPERATIONS)
    size = 0
    for compare in txn.compare:
        check_key(compare)
        size += len(compare.key)
    for branch in (txn.success, txn.failure):
        for op in branch:
            if type(op) is Put:
                check_put(op)
                size += len(op.key) + len(op.value)
            elif type(op) is Txn:
                size += _check_shape(op, allowed - used)
            else:
                check_key(op)  # type: ignore[arg-type]
                size += len(op.key)  # type: ignore[union-attr]
    return size


def _written(branch: Sequence[Operation]) -> tuple[set[bytes], list[Span]]:
    """The keys that a branch puts and the spans that it deletes; raises if one key is written twice.

    The two branches of a nested transaction exclude each other, so both may write the same key.
    """
    deleted: list[Span] = [(op.key, op.end) for op in branch if type(op) is Delete]
    put: set[bytes] = set()
    for op in branch:
        if type(op) is not Txn:
            continue
        then, then_deleted = _written(op.success)
        other, other_deleted = _written(op.failure)
        _refuse_overlap(then, put, deleted)
        _refuse_overlap(other, put, deleted)
        put |= then | other
        deleted += then_deleted + other_deleted
    for op in branch:
        if type(op) is Put:
            _refuse_overlap({op.key}, put, deleted)
            put.add(op.key)
    return put, deleted


def _refuse_overlap(keys: set[bytes], put: set[bytes], deleted: Sequence[Span]) -> None:
    if keys & put or any(_inside(key, span) for key in keys for span in deleted):
        raise InvalidRequest(DUPLICATE_KEY)


def _inside(key: bytes, span: Span) -> bool:
    start, end = span
    if end is None:
        return key == start
    return key >= start and (end == b"\0" or key < end)
