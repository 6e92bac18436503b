"""Store errors as gRPC statuses: etcd's messages and the codes that its clients expect with them."""

from __future__ import annotations

from tiphys.store.backend import (
    Compacted,
    FutureRevision,
    InvalidRequest,
    LeaseExists,
    LeaseNotFound,
    NoSpace,
    StoreError,
    Unavailable,
)
from tiphys.store.mvcc.lessor import TTL_TOO_LARGE

Code = str
"""The name of a code in ``grpc.StatusCode``."""

_BY_TYPE: tuple[tuple[type[StoreError], Code], ...] = (
    (Compacted, "OUT_OF_RANGE"),
    (FutureRevision, "OUT_OF_RANGE"),
    (NoSpace, "RESOURCE_EXHAUSTED"),
    (LeaseNotFound, "NOT_FOUND"),
    (LeaseExists, "FAILED_PRECONDITION"),
    (Unavailable, "UNAVAILABLE"),
    (InvalidRequest, "INVALID_ARGUMENT"),
)


class Refused(StoreError):
    """A request that this server does not do, with etcd's message where it has one."""

    def __init__(self, message: str, code: Code = "FAILED_PRECONDITION") -> None:
        super().__init__(message)
        self.code = code


def code_of(error: StoreError) -> Code:
    if isinstance(error, Refused):
        return error.code
    if str(error) == TTL_TOO_LARGE:
        return "OUT_OF_RANGE"
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), "UNKNOWN")
