"""Registers the node and keeps it alive at the API server: a Lease every 10 s, the status when it changes.

Source: https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats (KEP-589)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from tiphys.api.cloudnodes import PROVIDED_NODE_IP
from tiphys.api.meta.objects import annotations_of
from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import LEASES, NODES
from tiphys.client.rest import STRATEGIC_MERGE, Client
from tiphys.controlkit.objects import micro_timestamp, timestamp
from tiphys.kubelet.node.status import (
    NodeFacts,
    default_labels,
    insisted,
    new_node,
    node_status,
    same_but_for_heartbeats,
)
from tiphys.kubelet.recorder import EventType
from tiphys.runtime.clock import Clock, backoff

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
RENEWALS = 4
"""How often a lease is renewed while one renewal counts."""


class Periods(NamedTuple):
    """Seconds between two looks at what the node is like, and between two reports that say nothing new; and how long a
    lease counts."""

    look: float = 10.0
    report: float = 300.0
    lease: int = 40


class NodeAgent:
    """``facts()`` gives what the node is like now.

    ``transition(condition, status)`` is called with conditions that changed, ``event`` with everything else to report.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        name: str,
        facts: Callable[[], Awaitable[NodeFacts]],
        *,
        labels: Mapping[str, str],
        taints: Sequence[Object] = (),
        transition: Callable[[str, str], None] = lambda *_: None,
        event: Callable[[EventType, str, str], None] = lambda *_: None,
        periods: Periods | None = None,
    ) -> None:
        self._event = event
        self._periods = periods or Periods()
        self._unschedulable = False
        self._client = client
        self._clock = clock
        self._name = name
        self._facts = facts
        self._labels = labels
        self._taints = taints
        self._transition = transition
        self._reported = 0.0
        self.node: Object | None = None
        """The Node as the API last showed it."""
        self._wanted: Object | None = None

    @property
    def known(self) -> Object | None:
        """The Node as the API last showed it; before it ever did, as this kubelet wants to register it."""
        return self.node or self._wanted

    async def register(self) -> None:
        """Make the Node, or take over the one that is there; tries until it is done."""
        for delay in backoff(0.1, 2, 7):
            try:
                await self._register_once()
                return
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot register node %s: %s", self._name, error)
                await self._clock.sleep(delay)

    async def _register_once(self) -> None:
        facts = await self._facts()
        now = timestamp(self._clock.now())
        self._wanted = new_node(facts, now, self._labels, self._taints)
        try:
            self.node = await self._client.create(NODES, self._wanted)
            self._reported = self._clock.now()
        except errors.AlreadyExists:
            node = await self._client.get(NODES, self._name)
            wanted = default_labels(self._name, facts.machine) | dict(self._labels)
            labels = node["metadata"].get("labels") or {}
            addresses = insisted(facts).get(PROVIDED_NODE_IP)
            stale = annotations_of(node).get(PROVIDED_NODE_IP) != addresses
            if stale or any(labels.get(key) != text for key, text in wanted.items()):
                patch = {"metadata": {"labels": wanted, "annotations": {PROVIDED_NODE_IP: addresses}}}
                node = await self._client.patch(NODES, self._name, patch, type=STRATEGIC_MERGE)
            self.node = node
            await self.report(force=True)

    async def report(self, *, force: bool = False) -> None:
        """Send the status if it says anything new, or has not been sent for five minutes."""
        facts = await self._facts()
        now = self._clock.now()
        node = await self._client.get(NODES, self._name, params={"resourceVersion": "0"}) if not force else self.node
        assert node is not None
        before = node.get("status") or {}
        status = node_status(facts, before, timestamp(now))
        if not force and same_but_for_heartbeats(before, status) and now - self._reported < self._periods.report:
            self.node = node
            self._note_schedulable()
            return
        self.node = await self._client.patch(
            NODES, self._name, {"status": _patch(before, status)}, type=STRATEGIC_MERGE, subresource="status"
        )
        self._reported = now
        boot = (before.get("nodeInfo") or {}).get("bootID")
        if boot and boot != facts.machine.boot_id:
            self._event("Warning", "Rebooted", f"Node {self._name} has been rebooted, boot id: {facts.machine.boot_id}")
        self._note_schedulable()
        old = {c["type"]: c["status"] for c in before.get("conditions") or []}
        for condition in status["conditions"]:
            if old.get(condition["type"]) != condition["status"]:
                self._transition(condition["type"], condition["status"])

    def _note_schedulable(self) -> None:
        """Someone has cordoned the node, or lifted that."""
        assert self.node is not None
        unschedulable = bool((self.node.get("spec") or {}).get("unschedulable"))
        if unschedulable != self._unschedulable:
            reason = "NodeNotSchedulable" if unschedulable else "NodeSchedulable"
            self._event("Normal", reason, f"Node {self._name} status is now: {reason}")
        self._unschedulable = unschedulable

    async def run_status(self) -> None:
        """Look every 10 s; a report that fails is tried again at the next look."""
        while True:
            await self._clock.sleep(self._periods.look)
            try:
                await self.report()
            except errors.NotFound:
                log.warning("node %s was deleted; registering it again", self._name)
                await self.register()
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot report the status of node %s: %s", self._name, error)

    async def run_lease(self) -> None:
        lease: Object | None = None
        while True:
            try:
                lease = await self._renew(lease)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot renew the lease of node %s: %s", self._name, error)
                lease = None
                await self._clock.sleep(1.0)
                continue
            await self._clock.sleep(self._periods.lease / RENEWALS)

    async def _renew(self, lease: Object | None) -> Object:
        """Write the time of renewal over the lease last seen, or read or make it first."""
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": self._periods.lease,
            "renewTime": micro_timestamp(self._clock.now()),
        }
        if lease is None:
            try:
                lease = await self._client.get(LEASES, self._name, LEASE_NAMESPACE)
            except errors.NotFound:
                return await self._client.create(LEASES, self._new_lease(spec))
        lease = {**lease, "spec": {**(lease.get("spec") or {}), **spec}}
        owners = self._owners()
        if owners and not lease["metadata"].get("ownerReferences"):
            lease["metadata"] = {**lease["metadata"], "ownerReferences": owners}
        return await self._client.update(LEASES, lease)

    def _new_lease(self, spec: Object) -> Object:
        meta: Object = {"name": self._name, "namespace": LEASE_NAMESPACE}
        if owners := self._owners():
            meta["ownerReferences"] = owners
        return {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": meta, "spec": spec}

    def _owners(self) -> list[Object]:
        if self.node is None:
            return []
        uid = self.node["metadata"].get("uid")
        return [{"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": uid}]


def _patch(before: Object, status: Object) -> Object:
    """Addresses are replaced as a whole: merged by type, a second one of a type would overwrite the first, and one that
    is gone would stay."""
    if before.get("addresses") == status["addresses"]:
        return {key: value for key, value in status.items() if key != "addresses"}
    return {**status, "addresses": [{"$patch": "replace"}, *status["addresses"]]}
