"""The index of roles and bindings: kept up change by change, it says what one that is made afresh says."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.authz.authorizer import Access
from tiphys.apiserver.authz.rbac import GROUP, RBAC, FollowedBindings, FollowedRoles
from tiphys.apiserver.call import User
from tiphys.client import resources as R
from tiphys.client.errors import AlreadyExists, Conflict, Invalid, NotFound

VERBS = ("get", "list", "watch", "update")
USERS = [User(f"u{number}", ("devs",) if number % 2 else ()) for number in range(4)]


def subject(number: int) -> dict[str, Any]:
    if number == 4:
        return {"kind": "Group", "apiGroup": GROUP, "name": "devs"}
    return {"kind": "User", "apiGroup": GROUP, "name": f"u{number}"}


async def change(world: World, dice: random.Random) -> None:
    """Create, replace or delete a role or a binding, of the cluster or of a namespace."""
    namespaced = dice.random() < 0.5
    namespace = "a" if namespaced else ""
    kind, resource = dice.choice(
        [("Role", R.ROLES), ("RoleBinding", R.ROLE_BINDINGS)]
        if namespaced
        else [("ClusterRole", R.CLUSTER_ROLES), ("ClusterRoleBinding", R.CLUSTER_ROLE_BINDINGS)]
    )
    name = f"n{dice.randrange(3)}"
    obj: dict[str, Any] = {"metadata": {"name": name}}
    if kind.endswith("Binding"):
        of = dice.choice(["Role", "ClusterRole"]) if namespaced else "ClusterRole"
        obj["roleRef"] = {"apiGroup": GROUP, "kind": of, "name": f"n{dice.randrange(3)}"}
        obj["subjects"] = [subject(number) for number in dice.sample(range(5), dice.randrange(4))]
    else:
        verbs = dice.sample(VERBS, dice.randrange(1, 4))
        obj["rules"] = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]
    with suppress(AlreadyExists, NotFound, Conflict, Invalid):  # of what is there, and of another role than before
        if dice.random() < 0.3:
            await world.admin.delete(resource, name, namespace)
        elif dice.random() < 0.5:
            await world.admin.update(resource, {**obj, "metadata": {"name": name, "namespace": namespace}})
        else:
            await world.admin.create(resource, obj, namespace=namespace)
    await world.settle()


@pytest.mark.parametrize("seed", range(4))
def test_the_index_that_follows_agrees_with_one_made_afresh(seed: int) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        dice = random.Random(seed)
        follows = RBAC(world.server.registries)
        allowed = 0
        for _ in range(60):
            await change(world, dice)
            fresh = RBAC(world.server.registries)
            for user in USERS:
                for verb in VERBS:
                    for namespace in ("", "a"):
                        access = Access(user, verb, resource="configmaps", namespace=namespace)
                        decision = await follows.authorize(access)
                        assert decision == await fresh.authorize(access), access
                        allowed += decision.reason != ""
                rules = [await rbac.rules_of(user, "a") for rbac in (follows, fresh)]
                assert rules[0] == rules[1]
        assert allowed > 100

    run(work)


def test_a_change_costs_the_work_of_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        read: list[str] = []
        for of in (FollowedRoles, FollowedBindings):
            put = of.put

            def counted(self: Any, entry: Any, put: Any = put) -> None:
                read.append(entry.name)
                put(self, entry)

            monkeypatch.setattr(of, "put", counted)
        await world.namespace("a")
        rbac = RBAC(world.server.registries)
        access = Access(User("u1", ()), "get", resource="configmaps", namespace="a")
        await rbac.authorize(access)
        read.clear()
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"}
        for number in range(50):
            binding = {"metadata": {"name": f"b{number}"}, "roleRef": reference, "subjects": [subject(1)]}
            await world.admin.create(R.ROLE_BINDINGS, binding, namespace="a")
            await world.settle()
            await rbac.authorize(access)
        ours = [name for name in read if name.startswith("b")]
        assert len(ours) <= 2 * 50  # this index, and the server's own
        assert len(read) - len(ours) < 20

    run(work)
