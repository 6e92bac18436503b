"""Roles and bindings: their writers cannot grant what they do not hold (see ``authz.escalation``).

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tiphys.api.object import Object
from tiphys.api.scheme import GroupKind, GroupVersionKind
from tiphys.apiserver.authz.escalation import EscalationGuard
from tiphys.apiserver.authz.rbac import GROUP
from tiphys.apiserver.registry.strategy import Finish, Strategy, Write, keep

Check = Callable[[str, Object, Object | None, Write], Awaitable[None]]


class GrantStrategy(Strategy):
    create_on_update = True

    def __init__(self, kind: str, check: Check) -> None:
        super().__init__(GroupVersionKind(GROUP, "v1", kind))
        self._plural = f"{kind.lower()}s"
        self._check = check

    async def begin_create(self, obj: Object, write: Write) -> Finish:
        await self._check(self._plural, obj, None, write)
        return keep

    async def begin_update(self, new: Object, old: Object, write: Write) -> Finish:
        await self._check(self._plural, new, old, write)
        return keep


def grant_strategies(guard: EscalationGuard) -> dict[GroupKind, Strategy]:
    return {
        GroupKind(GROUP, "ClusterRole"): GrantStrategy("ClusterRole", guard.check_role),
        GroupKind(GROUP, "Role"): GrantStrategy("Role", guard.check_role),
        GroupKind(GROUP, "ClusterRoleBinding"): GrantStrategy("ClusterRoleBinding", guard.check_binding),
        GroupKind(GROUP, "RoleBinding"): GrantStrategy("RoleBinding", guard.check_binding),
    }
