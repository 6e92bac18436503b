"""What the driver's services share: the store, a lock for each volume, and errors in the protocol's words.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from tiphys.api.csi.messages import csi
from tiphys.runtime.disks.files import LocalVolume, NoSuchVolume, Taken, VolumeStore
from tiphys.runtime.disks.programs import ProgramFailure
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

T = TypeVar("T")
NAME = "local.tiphys"
TOPOLOGY_KEY = "topology.local.tiphys/node"


def answer(message: str, /, **fields: Any) -> Any:
    return csi().message(message)(**fields)


def require(request: Any, *fields: str) -> None:
    """Raises ``GrpcError`` for a request that lacks one of the fields."""
    for name in fields:
        if not getattr(request, name):
            raise GrpcError(StatusCode.INVALID_ARGUMENT, f"{name} is missing in the request")


class Shop:
    """``node_name`` is where the volumes are. ``loops``: it has loop devices, and so volumes with a limit."""

    def __init__(self, store: VolumeStore, node_name: str, *, loops: bool) -> None:
        self.loops = loops
        self.store = store
        self.node_name = node_name
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

    async def work(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Run what blocks in a thread, to its end whoever hangs up. Raises ``GrpcError``."""
        task = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait((task,))
            raise
        except NoSuchVolume as error:
            raise GrpcError(StatusCode.NOT_FOUND, str(error)) from error
        except Taken as error:
            raise GrpcError(StatusCode.ALREADY_EXISTS, str(error)) from error
        except (ProgramFailure, OSError) as error:
            raise GrpcError(StatusCode.INTERNAL, str(error)) from error

    def volume(self, id: str) -> LocalVolume:
        """Raises ``GrpcError``."""
        try:
            return self.store.get(id)
        except NoSuchVolume as error:
            raise GrpcError(StatusCode.NOT_FOUND, str(error)) from error
