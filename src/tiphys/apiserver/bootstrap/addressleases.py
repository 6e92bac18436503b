"""Which API servers live: each keeps a key with its address in the store, under a lease that it renews.

A killed server cannot sign off; its key expires with its lease, and the others then take its address out of the
endpoints of the service ``kubernetes``. The keys are upstream's, ``/registry/masterleases/ADDRESS``, and so are the
times, so that both kinds of server can share a cluster.
Source: the flag ``--endpoint-reconciler-type=lease`` of kube-apiserver.
"""

from __future__ import annotations

import contextlib

import orjson

from tiphys.store.backend import Backend, LeaseNotFound, Put, Range, prefix_end
from tiphys.store.backend import Delete as DeleteKey

RENEW_SECONDS = 10.0
LEASE_SECONDS = 15


class AddressLeases:
    """The addresses of the servers on one store. ``root`` is ``Config.storage_root``."""

    def __init__(self, backend: Backend, root: str) -> None:
        self._backend = backend
        self._prefix = f"{root}/masterleases/".encode()
        self._held: dict[str, int] = {}

    async def renew(self, address: str) -> None:
        """Hold the address for ``LEASE_SECONDS`` from now. Raises ``StoreError``."""
        if address in self._held:
            try:
                if (await self._backend.lease_keep_alive(self._held[address])).ttl > 0:
                    return
            except LeaseNotFound:
                pass  # the store was out of reach for longer than the lease lasts
        lease = await self._backend.lease_grant(LEASE_SECONDS)
        await self._backend.put(Put(self._prefix + address.encode(), _record(address), lease.id))
        self._held[address] = lease.id

    async def withdraw(self, address: str) -> None:
        await self._backend.delete(DeleteKey(self._prefix + address.encode()))
        if (lease := self._held.pop(address, 0)) != 0:
            with contextlib.suppress(LeaseNotFound):  # it ran out before it was given back
                await self._backend.lease_revoke(lease)

    async def addresses(self) -> list[str]:
        """The addresses of all servers that live, in the order of their text."""
        answer = await self._backend.range(Range(self._prefix, prefix_end(self._prefix), keys_only=True))
        return [kv.key[len(self._prefix) :].decode() for kv in answer.kvs]


def _record(address: str) -> bytes:
    """What upstream's servers read: an Endpoints object with the one address."""
    meta = {"creationTimestamp": None}
    subsets = [{"addresses": [{"ip": address}]}]
    return orjson.dumps({"kind": "Endpoints", "apiVersion": "v1", "metadata": meta, "subsets": subsets})
