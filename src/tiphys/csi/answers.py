"""What the services of our drivers share: messages by name, fields that a request must have, one call at a time.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from tiphys.api.csi.messages import csi
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError


def answer(message: str, /, **fields: Any) -> Any:
    return csi().message(message)(**fields)


def capabilities(message: str, names: Iterable[str]) -> Any:
    """What a service says that it can; ``message`` is its answer's name."""
    return answer(message, capabilities=[{"rpc": {"type": name}} for name in names])


def require(request: Any, *fields: str) -> None:
    """Raises ``GrpcError`` for a request that lacks one of the fields."""
    for name in fields:
        if not getattr(request, name):
            raise GrpcError(StatusCode.INVALID_ARGUMENT, f"{name} is missing in the request")


_MANY_NODES_WRITE = (4, 5)
"""The access modes with which several nodes write to a volume."""


def problem_of(capabilities: Iterable[Any]) -> str:
    """Why a volume, which is on one node at a time, cannot be had in one of these ways; empty if it can in all."""
    for capability in capabilities:
        if capability.access_mode.mode in _MANY_NODES_WRITE:
            return "a volume is written from one node at a time; use ReadWriteOnce or ReadWriteOncePod"
        if capability.WhichOneof("access_type") == "mount" and capability.mount.fs_type not in ("", "ext4"):
            return f"file system {capability.mount.fs_type} is not supported; use ext4"
    return ""


class Busy:
    """Which volumes are worked on."""

    def __init__(self) -> None:
        self._busy: set[str] = set()

    @contextlib.asynccontextmanager
    async def holding(self, *ids: str) -> AsyncIterator[None]:
        """One call at a time for each volume; another is refused as ABORTED, so that its caller tries again."""
        if taken := [id for id in ids if id in self._busy]:
            raise GrpcError(StatusCode.ABORTED, f"an operation on {taken[0]} is under way")
        self._busy.update(ids)
        try:
            yield
        finally:
            self._busy.difference_update(ids)
