"""The Auth service of a server without users and roles: client certificates identify callers, when they connect.

Source: https://etcd.io/docs/v3.6/learning/design-auth-v3/
"""

from __future__ import annotations

from typing import Any

from tiphys.store.etcdpb import pb
from tiphys.store.etcdserver.errors import Code, Refused
from tiphys.store.etcdserver.member import Member

NO_USERS = (
    "tiphys: users and roles are not supported by this store; require client certificates with --client-cert-auth"
)


class Auth:
    """What exists in etcd while authentication is off is answered; what would add a user or a role is refused."""

    def __init__(self, member: Member) -> None:
        self._member = member

    async def AuthStatus(self, _: Any) -> Any:
        return pb.AuthStatusResponse(header=self._member.header(), enabled=False, authRevision=1)

    async def AuthEnable(self, _: Any) -> Any:
        raise Refused("etcdserver: root user does not exist")

    async def Authenticate(self, _: Any) -> Any:
        raise Refused("etcdserver: authentication is not enabled")

    async def _empty(self, _: Any) -> Any:
        return pb.AuthResponse(header=self._member.header())

    async def _no_user(self, _: Any) -> Any:
        raise Refused("etcdserver: user name not found")

    async def _no_role(self, _: Any) -> Any:
        raise Refused("etcdserver: role name not found")

    async def _unsupported(self, _: Any) -> Any:
        raise Refused(NO_USERS, Code.UNIMPLEMENTED)

    AuthDisable = UserList = RoleList = _empty
    UserGet = UserDelete = UserChangePassword = UserGrantRole = UserRevokeRole = _no_user
    RoleGet = RoleDelete = RoleGrantPermission = RoleRevokePermission = _no_role
    UserAdd = RoleAdd = _unsupported
