"""The Lease service.

Source: https://etcd.io/docs/v3.6/learning/api/#lease-api
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from tiphys.store.backend import LeaseNotFound
from tiphys.store.etcdpb import pb
from tiphys.store.etcdserver.member import Member


class Lease:
    def __init__(self, member: Member) -> None:
        self._member = member
        self._store = member.store

    async def LeaseGrant(self, request: Any) -> Any:
        lease = await self._store.lease_grant(request.TTL, request.ID)
        return pb.LeaseGrantResponse(header=self._member.header(), ID=lease.id, TTL=lease.granted_ttl)

    async def LeaseRevoke(self, request: Any) -> Any:
        revision = await self._store.lease_revoke(request.ID)
        return pb.LeaseRevokeResponse(header=self._member.header(revision))

    async def LeaseKeepAlive(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            try:
                ttl = (await self._store.lease_keep_alive(request.ID)).ttl
            except LeaseNotFound:
                ttl = 0
            yield pb.LeaseKeepAliveResponse(header=self._member.header(), ID=request.ID, TTL=ttl)

    async def LeaseTimeToLive(self, request: Any) -> Any:
        lease = await self._store.lease_status(request.ID, keys=request.keys)
        return pb.LeaseTimeToLiveResponse(
            header=self._member.header(), ID=lease.id, TTL=lease.ttl, grantedTTL=lease.granted_ttl, keys=lease.keys
        )

    async def LeaseLeases(self, _: Any) -> Any:
        leases = [pb.LeaseStatus(ID=id) for id in await self._store.leases()]
        return pb.LeaseLeasesResponse(header=self._member.header(), leases=leases)
