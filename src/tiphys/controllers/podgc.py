"""The pod garbage collector: removes pods that nobody else will, of nodes that are gone or out of service, or too many.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import NODES, PODS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    created_at,
    generation_of,
    is_deleting,
    is_ready_node,
    name_of,
    namespace_of,
    status_of,
    timestamp,
    uid_of,
)
from tiphys.controlkit.queue import WorkQueue
from tiphys.controllers.context import ControllerContext

log = logging.getLogger(__name__)

PERIOD = 20.0
QUARANTINE = 40.0
"""Seconds for which a node must have been away before its pods are removed; it may only be late in the informer."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"

_KNOWN_PHASES = frozenset(("Pending", "Running", "Unknown"))


# Decisions


@dataclass(frozen=True, slots=True)
class Victim:
    pod: Object
    condition: Object | None = None


def _order(pod: Object) -> tuple[bool, str, str]:
    """Evicted pods first, then by age."""
    return status_of(pod).get("reason") != "Evicted", created_at(pod), name_of(pod)


def surplus_terminated(pods: Iterable[Object], threshold: int) -> list[Victim]:
    """Finished pods beyond ``threshold``; 0 means no limit."""
    terminated = [pod for pod in pods if podkit.phase_of(pod) not in _KNOWN_PHASES]
    surplus = len(terminated) - threshold
    if threshold <= 0 or surplus <= 0:
        return []
    return [Victim(pod) for pod in sorted(terminated, key=_order)[:surplus]]


def terminating_out_of_service(pods: Iterable[Object], nodes: dict[str, Object]) -> list[Victim]:
    """Pods being deleted on nodes that an administrator has declared out of service."""
    victims = []
    for pod in pods:
        node = nodes.get(podkit.node_of(pod))
        if node is None or not is_deleting(pod) or is_ready_node(node):
            continue
        if any(taint["key"] == OUT_OF_SERVICE for taint in node["spec"].get("taints") or ()):
            victims.append(Victim(pod))
    return victims


def orphaned(pods: Iterable[Object], gone: Iterable[str]) -> list[Victim]:
    """Pods of nodes that do not exist."""
    missing = frozenset(gone)
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
    }
    return [Victim(pod, target) for pod in pods if podkit.node_of(pod) in missing]


def unscheduled_terminating(pods: Iterable[Object]) -> list[Victim]:
    return [Victim(pod) for pod in pods if is_deleting(pod) and not podkit.node_of(pod)]


def failed_status_patch(victim: Victim, now: float) -> Object | None:
    """The patch that marks a pod failed before it is deleted, to show its owner why; None if it has finished."""
    pod = victim.pod
    if podkit.is_finished(pod):
        return None
    status: Object = {"phase": "Failed"}
    if generation_of(pod):
        status["observedGeneration"] = generation_of(pod)
    if victim.condition is not None:
        added = {**victim.condition, "lastTransitionTime": timestamp(now)}
        if generation_of(pod):
            added["observedGeneration"] = generation_of(pod)
        status["conditions"] = [added]
    return {"metadata": {"uid": uid_of(pod)}, "status": status}


class PodGCController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._threshold = context.config.terminated_pod_gc_threshold
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        self._absent: WorkQueue[str] = WorkQueue(context.clock)

    async def run(self) -> None:
        await self._pods.wait_synced()
        await self._nodes.wait_synced()
        while True:
            await self.collect()
            await self._clock.sleep(PERIOD)

    async def collect(self) -> None:
        """One round over all pods."""
        pods = self._pods.store.list()
        nodes = {name_of(node): node for node in self._nodes.store.list()}
        await self._remove(surplus_terminated(pods, self._threshold))
        await self._remove(terminating_out_of_service(pods, nodes))
        for pod in pods:
            node = podkit.node_of(pod)
            if node and node not in nodes:
                self._absent.add_after(node, QUARANTINE)
        gone = [node for node in self._absent.take_ready() if node not in nodes and not await self._exists(node)]
        await self._remove(orphaned(pods, gone))
        await self._remove(unscheduled_terminating(pods))

    async def _exists(self, node: str) -> bool:
        try:
            await self._client.get(NODES, node)
        except errors.NotFound:
            return False
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot determine whether node %s exists: %s", node, error)
        return True

    async def _remove(self, victims: Sequence[Victim]) -> None:
        await asyncio.gather(*map(self._remove_one, victims))

    async def _remove_one(self, victim: Victim) -> None:
        pod, patch = victim.pod, failed_status_patch(victim, self._clock.now())
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            if patch is not None:
                await self._client.patch(PODS, name, patch, namespace, type=STRATEGIC_MERGE, subresource="status")
            await self._client.delete(PODS, name, namespace, grace=0)
        except errors.NotFound:
            return
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot remove pod %s/%s: %s", namespace, name, error)
