"""The node lifecycle controller's I/O.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller
"""

from __future__ import annotations

import asyncio
import logging

from tiphys.api.object import Object
from tiphys.api.scheduling.taints import NO_EXECUTE, NOT_READY, UNREACHABLE
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import LEASES, NODES, PODS
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    condition,
    copy,
    key_of,
    labels_of,
    name_of,
    split_key,
    timestamp,
    uid_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.nodes.lifecycle import health
from tiphys.controllers.nodes.lifecycle.health import NodeHealth, ZoneState
from tiphys.controllers.nodes.lifecycle.tainter import Tainter
from tiphys.controllers.nodes.taints import Taint, has_taint, swap_taints
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
HEALTH_RETRIES = 5
EXCLUDED = "node.kubernetes.io/exclude-disruption"

NOT_READY_TAINT: Taint = (NOT_READY, NO_EXECUTE)
UNREACHABLE_TAINT: Taint = (UNREACHABLE, NO_EXECUTE)


class NodeLifecycleController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock, self._config = context.client, context.clock, context.config
        self._recorder = context.recorder.named("node-controller")
        self._nodes = context.informers.informer(NODES)
        self._pods = context.informers.informer(PODS)
        self._leases = context.informers.informer(LEASES, namespace=LEASE_NAMESPACE)
        podkit.index_by_node(self._pods)
        self._known: dict[str, Object] = {}
        self._health: dict[str, NodeHealth] = {}
        self._ready: dict[str, str] = {}
        self._retry: set[str] = set()
        self._zones: dict[str, ZoneState] = {}
        self._tainter = Tainter(context.clock, context.config.node_eviction_rate)
        self._node_work = context.controller("node_lifecycle_controller", self.reconcile_node, workers=8)
        self._node_work.watches(self._nodes)
        self._pod_work = context.controller("node_lifecycle_controller_pods", self.reconcile_pod, workers=4)
        self._pod_work.handles(
            self._pods,
            Callbacks(added=self._pod_added, updated=self._pod_updated, deleted=lambda pod: None),
        )

    async def run(self) -> None:
        for informer in (self._nodes, self._pods, self._leases):
            await informer.wait_synced()
        async with Runner(self._clock, "node lifecycle ") as runner:
            runner.supervise(self._node_work.run, "nodes")
            runner.supervise(self._pod_work.run, "pods")
            runner.supervise(self._taint_unhealthy, "taints")
            while True:
                await self.monitor()
                await self._clock.sleep(self._config.node_monitor_period)

    # Taints and labels that follow from a node's conditions

    async def reconcile_node(self, name: str) -> None:
        node = self._nodes.store.get("", name)
        if node is None:
            return
        add, remove = health.no_schedule_changes(node)
        if add or remove:
            await swap_taints(self._client, self._clock, name, add, remove)
        labels = health.label_changes(node)
        if labels:
            await self._client.patch(NODES, name, {"metadata": {"labels": labels}})

    # Pods that were bound to a node that is not ready

    def _pod_added(self, pod: Object) -> None:
        if self._ready.get(podkit.node_of(pod), "True") != "True":
            self._pod_work.queue.add(key_of(pod))

    def _pod_updated(self, old: Object, new: Object) -> None:
        if podkit.node_of(old) != podkit.node_of(new):
            self._pod_added(new)

    async def reconcile_pod(self, key: str) -> None:
        pod = self._pods.store.get(*split_key(key))
        if pod is not None and self._ready.get(podkit.node_of(pod), "True") != "True":
            await self._mark_not_ready([pod])

    async def _mark_not_ready(self, pods: list[Object]) -> None:
        """Mark every pod that can be; raises the first error afterwards, so that one pod keeps no other from it."""
        failed: list[errors.ApiError] = []
        for pod in pods:
            try:
                marked = await self._mark_pod(pod)
            except errors.ApiError as error:
                failed.append(error)
                continue
            if marked:
                self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")
        if failed:
            raise failed[0]

    async def _mark_pod(self, pod: Object) -> bool:
        """Whether the pod said that it was ready, and does not any more. Raises ``ApiError``."""
        ready = condition(pod, "Ready")
        if ready is None or ready["status"] == "False":
            return False
        wanted = copy(pod)
        changed = condition(wanted, "Ready")
        assert changed is not None
        changed |= {"status": "False", "lastTransitionTime": timestamp(self._clock.now())}
        try:
            await self._client.update_status(PODS, wanted)
        except errors.NotFound:
            return False
        return True

    # Health

    async def monitor(self) -> None:
        """Look at every node once."""
        nodes = self._nodes.store.list()
        await self._register(nodes)
        states = await asyncio.gather(*map(self._check, nodes))
        await self._handle_disruption(nodes, states)
        if not self._all_down():
            await asyncio.gather(*map(self._taint, nodes))

    def _all_down(self) -> bool:
        return all(state is ZoneState.FULL for state in self._zones.values())

    async def _register(self, nodes: list[Object]) -> None:
        names = {name_of(node) for node in nodes}
        for node in nodes:
            if name_of(node) not in self._known:
                self._known[name_of(node)] = node
                self._report(node, "RegisteredNode", f"Registered Node {name_of(node)} in Controller")
                self._zones.setdefault(health.zone_of(node), ZoneState.INITIAL)
        for name in self._known.keys() - names:
            self._report(self._known.pop(name), "RemovingNode", f"Removing Node {name} from Controller")
            self._health.pop(name, None)
            self._ready.pop(name, None)
            self._tainter.remove(name)

    async def _check(self, node: Object) -> bool | None:
        """Judge one node and act on it; what fails is done again in the next round.

        Returns whether the node is ready, which one that has never said so is not; None when that is not known.
        """
        name = name_of(node)
        ready = None
        try:
            judgement = await self._judge(node)
            ready = judgement.current == "True"
            if judgement.current is None:
                return ready
            self._ready[name] = judgement.current
            became_unready = judgement.current != "True" and judgement.observed == "True"
            if became_unready:
                message = f"Node {name} status is now: NodeNotReady"
                self._recorder.event(_reference(node), "Normal", "NodeNotReady", message)
            if became_unready or (name in self._retry and judgement.observed != "True"):
                self._retry.add(name)
                await self._mark_not_ready(self._pods.store.by_index(podkit.NODE_INDEX, name))
            self._retry.discard(name)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("health of node %s: %s", name, error)
        except Exception:
            log.exception("health of node %s cannot be judged", name)
        return ready

    async def _judge(self, node: Object) -> health.Judgement:
        name, config = name_of(node), self._config
        lease = self._leases.store.get(LEASE_NAMESPACE, name)
        for _ in range(HEALTH_RETRIES):
            judgement = health.judge(
                self._health.get(name),
                node,
                lease,
                self._clock.now(),
                config.node_monitor_grace_period,
                config.node_startup_grace_period,
            )
            if judgement.status is None:
                break
            try:
                await self._client.update_status(NODES, {**node, "status": judgement.status})
                break
            except errors.Conflict:
                node = await self._client.get(NODES, name)
        self._health[name] = judgement.health
        return judgement

    async def _taint(self, node: Object) -> None:
        """Mark a node for the taint that its state asks for. What fails is done again in the next round.

        Only after the zones have been looked at: if all are down, no node is tainted, not even for a moment.
        """
        name = name_of(node)
        try:
            match self._ready.get(name):
                case None:
                    return
                case "True":
                    await self._untaint(node)
                case "False":
                    await self._want_taint(node, NOT_READY_TAINT, UNREACHABLE_TAINT)
                case _:
                    await self._want_taint(node, UNREACHABLE_TAINT, NOT_READY_TAINT)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("taints of node %s: %s", name, error)

    async def _want_taint(self, node: Object, wanted: Taint, other: Taint) -> None:
        name = name_of(node)
        if has_taint(node, other):
            await swap_taints(self._client, self._clock, name, [wanted], [other])
        elif not has_taint(node, wanted):
            self._tainter.remove(name)
            self._tainter.add(health.zone_of(node), name)

    async def _untaint(self, node: Object) -> None:
        stale = [taint for taint in (UNREACHABLE_TAINT, NOT_READY_TAINT) if has_taint(node, taint)]
        if stale:
            await swap_taints(self._client, self._clock, name_of(node), (), stale)
        self._tainter.remove(name_of(node))

    async def _taint_unhealthy(self) -> None:
        while True:
            name = await self._tainter.next()
            node = self._nodes.store.get("", name)
            ready = condition(node, "Ready") if node is not None else None
            if ready is None or ready["status"] == "True":
                continue
            wanted, other = NOT_READY_TAINT, UNREACHABLE_TAINT
            if ready["status"] == "Unknown":
                wanted, other = other, wanted
            try:
                await swap_taints(self._client, self._clock, name, [wanted], [other])
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot taint node %s: %s", name, error)
                self._tainter.retry(name)

    # Zones

    async def _handle_disruption(self, nodes: list[Object], readiness: list[bool | None]) -> None:
        """If every zone is down, rather this controller is cut off: taint nobody, and start afresh afterwards."""
        zones: dict[str, list[bool]] = {}
        for node, ready in zip(nodes, readiness, strict=True):
            if EXCLUDED not in labels_of(node) and ready is not None:
                zones.setdefault(health.zone_of(node), []).append(ready)
        threshold = self._config.unhealthy_zone_threshold
        states = {zone: health.zone_state(flags, threshold) for zone, flags in zones.items()}
        for zone in self._zones.keys() - zones.keys():
            del self._zones[zone]
        before = {zone: self._zones.get(zone, ZoneState.INITIAL) for zone in zones}
        were_down = all(state is ZoneState.FULL for state in before.values())
        self._zones |= states
        all_down = self._all_down()
        if all_down and were_down:
            return
        if all_down:
            for node in nodes:
                await self._untaint_safely(node)
            for zone in zones:
                self._tainter.set_rate(zone, 0.0)
            return
        if were_down:
            now = self._clock.now()
            for name, known in self._health.items():
                self._health[name] = NodeHealth(now, now, known.heartbeat, known.renewed)
        for zone, state in states.items():
            if were_down or before[zone] is not state:
                self._tainter.set_rate(zone, self._rate(state, len(zones[zone])))

    async def _untaint_safely(self, node: Object) -> None:
        try:
            await self._untaint(node)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot remove taints from node %s: %s", name_of(node), error)

    def _rate(self, state: ZoneState, size: int) -> float:
        config = self._config
        return health.eviction_rate(
            state,
            size,
            config.node_eviction_rate,
            config.secondary_node_eviction_rate,
            config.large_cluster_size_threshold,
        )

    def _report(self, node: Object, reason: str, message: str) -> None:
        self._recorder.event(_reference(node), "Normal", reason, f"Node {name_of(node)} event: {message}")


def _reference(node: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
