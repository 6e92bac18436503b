"""The lease that shows that an API server is alive, ``kube-system/apiserver-…``, and removal of dead servers' leases.

The name is made of the machine's, so that a server finds its own again; each start is its own holder.
Source: https://kubernetes.io/docs/concepts/architecture/leases/#api-server-identity and KEP-1965.
"""

from __future__ import annotations

import base64
import hashlib

from tiphys.api.meta.copying import copy
from tiphys.api.meta.timestamps import format_micro_time, parse_seconds
from tiphys.api.object import Object
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.making import owned, prepared
from tiphys.apiserver.registry.registries import Registries
from tiphys.apiserver.registry.registry import Registry
from tiphys.apiserver.storage.objects import Stale

NAMESPACE = "kube-system"
LABEL, COMPONENT = "apiserver.kubernetes.io/identity", "kube-apiserver"
LEASE_SECONDS = 3600
COLLECT_SECONDS = 3600


def lease_name(hostname: str) -> str:
    """The name of the lease of the server on a machine: a hash of both names, each after its length."""
    parts = (hostname.encode(), COMPONENT.encode())
    digest = hashlib.sha256(b"".join(len(part).to_bytes(2, "big") + part for part in parts)).digest()
    return "apiserver-" + base64.b32encode(digest[:16]).decode().rstrip("=").lower()


def has_expired(lease: Object, now: float) -> bool:
    """``now`` in seconds since the Unix epoch. One without its times is worth nothing."""
    spec = lease.get("spec") or {}
    renewed, seconds = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    return renewed is None or seconds is None or parse_seconds(renewed) + seconds < now


class IdentityLease:
    def __init__(self, config: Config, registries: Registries) -> None:
        self._config = config
        self._registries = registries
        self._name = lease_name(config.hostname)
        self._holder = f"{self._name}_{registries.ids.uid()}"
        self._withdrawn = False

    @property
    def _registry(self) -> Registry:
        return self._registries.get("coordination.k8s.io", "leases")

    async def claim(self) -> None:
        """Take the place of a former server on this machine."""
        await self._delete(self._name)
        await self.renew()

    async def renew(self) -> None:
        if self._withdrawn:
            return
        registry = self._registry
        write = registry.write_context(namespace=NAMESPACE)

        async def transform(stored: Object | None) -> Object:
            return owned(registry, stored, prepared(registry, self._renewed(stored, write.epoch)), write)

        change = updating.Update(NAMESPACE, self._name, transform, updating.ObjectRules(registry), create=True)
        await updating.update(registry, change, write)

    def _renewed(self, stored: Object | None, now: float) -> Object:
        lease = copy(stored) if stored is not None else self._new()
        meta = lease["metadata"]
        labels = {LABEL: COMPONENT, "kubernetes.io/hostname": self._config.hostname}
        host = self._config.advertise_address
        address = f"[{host}]:{self._config.advertise_port}" if ":" in host else f"{host}:{self._config.advertise_port}"
        meta["labels"] = {**meta.get("labels", {}), **labels}
        meta["annotations"] = {**meta.get("annotations", {}), "kubernetes.io/peer-advertise-address": address}
        lease["spec"] = {**lease["spec"], "renewTime": format_micro_time(now)}
        return lease

    def _new(self) -> Object:
        head = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1"}
        spec = {"holderIdentity": self._holder, "leaseDurationSeconds": LEASE_SECONDS}
        return {**head, "metadata": {"name": self._name, "namespace": NAMESPACE}, "spec": spec}

    async def withdraw(self) -> None:
        """This server stops: remove its lease."""
        self._withdrawn = True
        await self._delete(self._name)

    async def collect(self) -> None:
        """Remove the leases of servers that have not said for long that they live."""
        registry = self._registry
        now = registry.clock.now()
        for entry in await registry.all(NAMESPACE):
            if entry.labels.get(LABEL) == COMPONENT and has_expired(registry.object(entry), now):
                await self._delete(entry.name, now)

    async def _delete(self, name: str, expired_at: float | None = None) -> None:
        """Remove a lease, if it is there; with a time only if it has expired by then."""
        entry = await self._registry.store.get(NAMESPACE, name)
        if entry is None or (expired_at is not None and not has_expired(self._registry.object(entry), expired_at)):
            return
        try:
            await self._registry.store.delete(entry.key, entry)
        except Stale:
            return  # renewed, or removed by another server, in this moment
