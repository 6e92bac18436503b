"""The TTL controller: sets, in an annotation of each node, how long kubelets may cache secrets and config maps.

Source: https://pkg.go.dev/k8s.io/api/core/v1#ObjectTTLAnnotationKey
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client.informer import Callbacks
from tiphys.client.resources import NODES
from tiphys.controlkit.objects import (
    annotations_of,
    key_of,
)
from tiphys.controllers.context import ControllerContext

ANNOTATION = "node.alpha.kubernetes.io/ttl"

_BOUNDARIES = ((0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, 2**63, 300))
"""From and up to how many nodes each TTL in seconds holds; they overlap, so that it does not flap."""


def next_step(step: int, nodes: int) -> int:
    """The step for so many nodes, from the step before."""
    while nodes > _BOUNDARIES[step][1]:
        step += 1
    while nodes < _BOUNDARIES[step][0]:
        step -= 1
    return step


class NodeTTLController:
    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._step = 0
        self._nodes = context.informers.informer(NODES)
        self._controller = context.controller("ttlcontroller", self.reconcile, workers=5)
        self._controller.handles(
            self._nodes,
            Callbacks(added=self._seen, updated=lambda old, new: self._seen(new), deleted=self._count),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _count(self, node: Object) -> None:
        self._step = next_step(self._step, len(self._nodes.store))

    def _seen(self, node: Object) -> None:
        self._count(node)
        if annotations_of(node).get(ANNOTATION) != str(_BOUNDARIES[self._step][2]):
            self._controller.queue.add(key_of(node))

    async def reconcile(self, name: str) -> None:
        node = self._nodes.store.get("", name)
        ttl = str(_BOUNDARIES[self._step][2])
        if node is not None and annotations_of(node).get(ANNOTATION) != ttl:
            await self._client.patch(NODES, name, {"metadata": {"annotations": {ANNOTATION: ttl}}})
