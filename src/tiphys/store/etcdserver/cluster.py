"""The Cluster service: one member, for ever. A cluster of several is real etcd's business.

Source: https://etcd.io/docs/v3.6/learning/api/
"""

from __future__ import annotations

from typing import Any

from tiphys.store.etcdpb import pb
from tiphys.store.etcdserver.errors import Code, Refused
from tiphys.store.etcdserver.member import Member

ONE_MEMBER = (
    "tiphys: the embedded store has one member; to have several, move its data to an etcd cluster with "
    "`etcdctl snapshot save` and `etcdctl snapshot restore`"
)


class Cluster:
    def __init__(self, member: Member) -> None:
        self._member = member

    async def MemberList(self, _: Any) -> Any:
        member = self._member
        entry = pb.Member(
            ID=member.member_id, name=member.name, peerURLs=member.peer_urls, clientURLs=member.client_urls
        )
        header = member.header()
        header.ClearField("revision")  # as etcd, whose members are not part of the store
        return pb.MemberListResponse(header=header, members=[entry])

    async def MemberAdd(self, _: Any) -> Any:
        raise Refused(ONE_MEMBER, Code.UNIMPLEMENTED)

    async def MemberUpdate(self, _: Any) -> Any:
        raise Refused(ONE_MEMBER, Code.UNIMPLEMENTED)

    async def MemberRemove(self, request: Any) -> Any:
        if self._member.member_id != request.ID:
            raise Refused("etcdserver: member not found", Code.NOT_FOUND)
        raise Refused("etcdserver: re-configuration failed due to not enough started members")

    async def MemberPromote(self, request: Any) -> Any:
        if self._member.member_id != request.ID:
            raise Refused("etcdserver: member not found", Code.NOT_FOUND)
        raise Refused("etcdserver: can only promote a learner member")
