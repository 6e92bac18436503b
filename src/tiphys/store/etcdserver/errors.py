"""Store errors as gRPC statuses: etcd's messages and the codes that its clients expect with them.

Source: https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

from enum import IntEnum

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


class Code(IntEnum):
    """gRPC's status codes."""

    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14


_BY_TYPE: tuple[tuple[type[StoreError], Code], ...] = (
    (Compacted, Code.OUT_OF_RANGE),
    (FutureRevision, Code.OUT_OF_RANGE),
    (NoSpace, Code.RESOURCE_EXHAUSTED),
    (LeaseNotFound, Code.NOT_FOUND),
    (LeaseExists, Code.FAILED_PRECONDITION),
    (Unavailable, Code.UNAVAILABLE),
    (InvalidRequest, Code.INVALID_ARGUMENT),
)


class Refused(StoreError):
    """A request that this server does not do, with etcd's message if it has one."""

    def __init__(self, message: str, code: Code = Code.FAILED_PRECONDITION) -> None:
        super().__init__(message)
        self.code = code


def status_of(error: Exception) -> tuple[int, str] | None:
    """The code and the message for the client; None for what is no store error."""
    if not isinstance(error, StoreError):
        return None
    if isinstance(error, Refused):
        return error.code, str(error)
    if str(error) == TTL_TOO_LARGE:
        return Code.OUT_OF_RANGE, str(error)
    return next((code for kind, code in _BY_TYPE if isinstance(error, kind)), Code.UNKNOWN), str(error)
