"""Which nodes are there to announce addresses: each renews a Lease of its own, and watches those of the others.

A Lease counts as long as it was seen to change within ``DURATION``, by this node's own clock. A node that does not see
its own Lease change knows nothing about the others: ``blind`` says so. Source:
https://kubernetes.io/docs/concepts/architecture/leases/
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection

from tiphys.api.meta.timestamps import format_micro_time
from tiphys.api.object import Object
from tiphys.client.errors import ApiError, NotFound
from tiphys.client.informer import Callbacks, Informer
from tiphys.client.resources import LEASES
from tiphys.client.rest import Client
from tiphys.proxy.loadbalancer.choice import AnnouncingNode
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

NAMESPACE = "tiphys-load-balancer"
NETWORKS = "tiphys.io/networks"
"""The annotation with the networks of a node's wires, commas between them."""
DURATION, RENEW = 5.0, 1.5
"""Seconds after which a node that says nothing is gone, and between two renewals."""


class Membership:
    """``changed`` is called when a Lease comes, goes or says something else than before."""

    def __init__(self, node_name: str, client: Client, clock: Clock, changed: Callable[[], None]) -> None:
        self._name, self._client, self._clock = node_name, client, clock
        self._changed = changed
        self._seen: dict[str, tuple[str, float]] = {}
        """What each Lease said last, and when that was new here."""
        self.leases = Informer(client, LEASES, clock, namespace=NAMESPACE)
        self.leases.add_handler(Callbacks(changed=self._take, deleted=self._forget))

    def _take(self, lease: Object) -> None:
        name = str(lease["metadata"]["name"])
        said = str((lease.get("spec") or {}).get("renewTime"))
        before = self._seen.get(name)
        if before is None or before[0] != said:
            if before is None or not self._counts(name):
                self._changed()
            self._seen[name] = said, self._clock.monotonic()

    def _forget(self, lease: Object) -> None:
        self._seen.pop(str(lease["metadata"]["name"]), None)
        self._changed()

    def _counts(self, name: str) -> bool:
        seen = self._seen.get(name)
        return seen is not None and self._clock.monotonic() - seen[1] < DURATION

    @property
    def blind(self) -> bool:
        """Whether this node's own Lease was not seen to change, so that nothing is known of the others'."""
        return not self._counts(self._name)

    def members(self) -> list[AnnouncingNode]:
        """The nodes that are there, by name."""
        alive = [lease for lease in self.leases.store.list() if self._counts(lease["metadata"]["name"])]
        return sorted(map(_member, alive), key=lambda member: member.name)

    async def renew(self, networks: Collection[str]) -> None:
        """Say that this node is there. What fails is logged: the next renewal comes soon."""
        lease: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "annotations": {NETWORKS: ",".join(sorted(networks))}},
            "spec": {
                "holderIdentity": self._name,
                "leaseDurationSeconds": int(DURATION),
                "renewTime": format_micro_time(self._clock.now()),
            },
        }
        try:
            try:
                patch = {"metadata": {"annotations": lease["metadata"]["annotations"]}, "spec": lease["spec"]}
                await self._client.patch(LEASES, self._name, patch, NAMESPACE)
            except NotFound:
                lease["metadata"]["namespace"] = NAMESPACE
                await self._client.create(LEASES, lease)
        except (ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot say that this node is there to announce addresses: %s", error)

    async def leave(self) -> None:
        """Let others take over at once."""
        with contextlib.suppress(ApiError, ConnectionError, TimeoutError):
            await self._client.delete(LEASES, self._name, NAMESPACE)


def _member(lease: Object) -> AnnouncingNode:
    text = (lease["metadata"].get("annotations") or {}).get(NETWORKS) or ""
    return AnnouncingNode(str(lease["metadata"]["name"]), tuple(part for part in text.split(",") if part))
