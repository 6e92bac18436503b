"""The node lifecycle controller of a cloud: a node whose machine is gone is deleted, one that is shut down is tainted.

Only nodes that are not Ready are asked about: the others prove that their machines run.

Source: https://kubernetes.io/docs/concepts/architecture/cloud-controller/#node-controller
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.api.meta.objects import name_of, uid_of
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import NODES
from tiphys.cloud.context import CloudContext
from tiphys.cloud.provider import Instances
from tiphys.controlkit.objects import condition

log = logging.getLogger(__name__)

SHUTDOWN = {"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}
_AT_ONCE = 16


class CloudNodeLifecycleController:
    def __init__(self, context: CloudContext, instances: Instances) -> None:
        self._client, self._clock, self._instances = context.client, context.clock, instances
        self._recorder = context.recorder.named("cloud-node-lifecycle-controller")
        self._nodes = context.informers.informer(NODES)
        self._period = context.config.node_monitor_period
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        await self._nodes.wait_synced()
        while True:
            await self.look()
            await self._clock.sleep(self._period)

    async def look(self) -> None:
        """Look at every node once."""
        await asyncio.gather(*(self._contained(node) for node in self._nodes.store.list()))

    async def _contained(self, node: Object) -> None:
        async with self._at_once:
            try:
                await self._look(node)
            except Exception as error:  # noqa: BLE001 - one machine's trouble keeps no other node from being looked at
                log.warning("cannot look after node %s: %s", name_of(node), error)

    async def _look(self, node: Object) -> None:
        ready = condition(node, "Ready")
        if ready is not None and ready["status"] == "True":
            if is_marked(node):
                await self._taint(node, shut_down=False)
        elif not await self._instances.exists(node):
            await self._delete(node)
        elif await self._instances.is_shut_down(node) and not is_marked(node):
            await self._taint(node, shut_down=True)

    async def _delete(self, node: Object) -> None:
        name = name_of(node)
        text = f"Deleting node {name} because it does not exist in the cloud provider"
        self._recorder.event(node, "Normal", "DeletingNode", text)
        try:
            await self._client.delete(NODES, name, uid=uid_of(node))  # not one that has been registered since
        except (errors.NotFound, errors.Conflict):
            log.info("node %s is gone, or another one", name)
        except errors.ApiError as error:
            self._recorder.event(node, "Warning", "DeletingNodeFailed", f"Failed deleting node {name}: {error.message}")
            raise

    async def _taint(self, node: Object, *, shut_down: bool) -> None:
        taints = [taint for taint in node["spec"].get("taints") or () if not _is_shutdown(taint)]
        patch = {
            "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
            "spec": {"taints": [*taints, SHUTDOWN] if shut_down else taints},
        }
        await self._client.patch(NODES, name_of(node), patch)


def is_marked(node: Object) -> bool:
    """Whether a node has the taint of a machine that is shut down."""
    return any(_is_shutdown(taint) for taint in node["spec"].get("taints") or ())


def _is_shutdown(taint: Object) -> bool:
    return all(taint.get(name) == text for name, text in SHUTDOWN.items())
