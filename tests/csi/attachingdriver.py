"""The driver of the node's disk under another name, and one that wants its volumes attached: a program of its own.

``python -m tests.csi.attachingdriver NODE VOLUMES KUBELET_DIR`` serves it until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from tiphys.api.csi.messages import csi
from tiphys.csi.identity import IdentityService
from tiphys.csi.local.command import has_loops
from tiphys.csi.local.controller import ControllerService
from tiphys.csi.local.driver import Shop
from tiphys.csi.local.node import NodeService
from tiphys.csi.served import served
from tiphys.runtime.clock import SystemClock
from tiphys.runtime.disks.files import VolumeStore
from tiphys.runtime.system.process import run_until_signal
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.stream import GrpcError

NAME = "attaching.example"


class AttachingController(ControllerService):
    """A volume is attached to one node at a time; what the attacher hears must come back to the node."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop, SystemClock())
        self._attached: dict[str, str] = {}

    async def ControllerGetCapabilities(self, request: Any) -> Any:
        answer = await super().ControllerGetCapabilities(request)
        answer.capabilities.add(rpc={"type": "PUBLISH_UNPUBLISH_VOLUME"})
        return answer

    async def ControllerPublishVolume(self, request: Any) -> Any:
        if self._attached.setdefault(request.volume_id, request.node_id) != request.node_id:
            raise GrpcError(StatusCode.FAILED_PRECONDITION, "attached elsewhere")
        return csi().message("ControllerPublishVolumeResponse")(publish_context={"attached": "yes"})

    async def ControllerUnpublishVolume(self, request: Any) -> Any:
        self._attached.pop(request.volume_id, None)
        return csi().message("ControllerUnpublishVolumeResponse")()


class AttachedNode(NodeService):
    async def NodeStageVolume(self, request: Any) -> Any:
        if request.publish_context.get("attached") != "yes":
            raise GrpcError(StatusCode.FAILED_PRECONDITION, "not attached")
        return await super().NodeStageVolume(request)


async def main(node: str, volumes: str, kubelet_dir: str) -> None:
    shop = Shop(VolumeStore(Path(volumes)), node, loops=has_loops())
    services = (IdentityService(NAME), AttachingController(shop), AttachedNode(shop))
    async with served(services, Path(kubelet_dir), NAME):
        await asyncio.Event().wait()


if __name__ == "__main__":
    run_until_signal(main(*sys.argv[1:]))
