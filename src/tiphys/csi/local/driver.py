"""What the driver's services share: the store, a lock for each volume, and errors in the protocol's words.

Source: https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from tiphys.csi.answers import Busy
from tiphys.runtime.disks.files import LocalVolume, NoSuchVolume, Taken, VolumeStore
from tiphys.runtime.disks.programs import ProgramFailure
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

T = TypeVar("T")
NAME = "local.tiphys"
TOPOLOGY_KEY = "topology.local.tiphys/node"


class Shop(Busy):
    """``node_name`` is where the volumes are. ``loops``: it has loop devices, and so volumes with a limit."""

    def __init__(self, store: VolumeStore, node_name: str, *, loops: bool) -> None:
        super().__init__()
        self.loops = loops
        self.store = store
        self.node_name = node_name

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
