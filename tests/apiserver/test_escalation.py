"""Who may write roles and bindings still cannot grant more than they hold."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.authz.escalation import compact, describe
from tiphys.apiserver.authz.rbac import GROUP as RBAC
from tiphys.client import resources as R
from tiphys.client.errors import Forbidden, NotFound

GROUP = "rbac.authorization.k8s.io"
PODS = {"apiGroups": [""], "verbs": ["get", "list"], "resources": ["pods"]}
SECRETS = {"apiGroups": [""], "verbs": ["get", "list"], "resources": ["secrets"]}


def role(name: str, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": list(rules)}


def binding(name: str, kind: str, to: str, user: str = "bob") -> dict[str, Any]:
    subjects = [{"kind": "User", "apiGroup": GROUP, "name": user}]
    return {"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": to}, "subjects": subjects}


async def writer(world: World, **more: list[str]) -> Any:
    """Bob, who reads pods in ``a``, writes roles and bindings there, and has further verbs by resource."""
    await world.namespace("a")
    writes = {"apiGroups": [GROUP], "verbs": ["*"], "resources": ["rolebindings"]}
    roles = {"apiGroups": [GROUP], "verbs": ["get", "create", "update", "patch"], "resources": ["roles"]}
    extra = [{"apiGroups": [GROUP], "verbs": verbs, "resources": [plural]} for plural, verbs in more.items()]
    await world.admin.create(R.ROLES, role("bobs", PODS, writes, roles, *extra), namespace="a")
    await world.admin.create(R.ROLES, role("secrets", SECRETS), namespace="a")
    await world.admin.create(R.ROLE_BINDINGS, binding("bobs", "Role", "bobs"), namespace="a")
    await world.settle()
    return world.client_of("bob", ("devs",))


def test_a_role_holds_no_more_than_its_writer() -> None:
    async def work(world: World) -> None:
        bob = await writer(world)
        made = await bob.create(R.ROLES, role("r", PODS), namespace="a")
        with pytest.raises(Forbidden) as refused:
            await bob.create(R.ROLES, role("s", PODS, SECRETS), namespace="a")
        assert str(refused.value).endswith(
            'roles.rbac.authorization.k8s.io "s" is forbidden: user "bob" (groups=["devs" "system:authenticated"]) is '
            "attempting to grant RBAC permissions not currently held:\n"
            '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'
        )
        with pytest.raises(Forbidden, match="not currently held"):
            await bob.update(R.ROLES, {**made, "rules": [SECRETS]})
        # Rights by a role that does not exist are unknown, and the refusal says so.
        await world.admin.create(R.ROLE_BINDINGS, binding("lost", "Role", "none"), namespace="a")
        await world.settle()
        with pytest.raises(Forbidden) as refused:
            await bob.create(R.ROLES, role("s", SECRETS), namespace="a")
        ending = '; resolution errors: [role.rbac.authorization.k8s.io "none" not found]'
        assert str(refused.value).endswith(ending)

    run(work)


def test_a_role_of_more_parts_than_can_be_compared_is_refused() -> None:
    """Three lists of a hundred words are a million parts, which somebody would have to wait for."""

    async def work(world: World) -> None:
        bob = await writer(world)
        words = [f"w{number}" for number in range(100)]
        huge = {"verbs": words, "apiGroups": words, "resources": words}
        with pytest.raises(Forbidden, match="grant 1000000 single RBAC permissions, of which 50000 can be compared"):
            await bob.create(R.ROLES, role("r", huge), namespace="a")
        many = {"verbs": words, "apiGroups": [""], "resources": words[:20]}
        with pytest.raises(Forbidden, match='Resources:\\["w19"\\], Verbs:\\["w0" "w1"'):
            await bob.create(R.ROLES, role("r", many), namespace="a")
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        await world.admin.create(R.ROLES, role("all", everything), namespace="a")
        await world.admin.create(R.ROLE_BINDINGS, binding("all", "Role", "all"), namespace="a")
        await world.settle()
        await bob.create(R.ROLES, role("r", huge), namespace="a")

    run(work)


def test_what_the_garbage_collector_changes_is_no_grant() -> None:
    async def work(world: World) -> None:
        bob = await writer(world)
        secrets = await world.admin.get(R.ROLES, "secrets", "a")
        secrets["metadata"]["finalizers"] = ["example.com/x"]
        await bob.update(R.ROLES, secrets)

    run(work)


def test_a_binding_gives_no_more_than_its_writer_has() -> None:
    async def work(world: World) -> None:
        bob = await writer(world)
        await bob.create(R.ROLE_BINDINGS, binding("mine", "Role", "bobs", "eve"), namespace="a")
        with pytest.raises(Forbidden, match="not currently held"):
            await bob.create(R.ROLE_BINDINGS, binding("more", "Role", "secrets"), namespace="a")
        with pytest.raises(Forbidden, match=r'"all" is forbidden: user "bob"'):
            await bob.create(R.ROLE_BINDINGS, binding("all", "ClusterRole", "cluster-admin"), namespace="a")
        with pytest.raises(NotFound, match=r'rolebindings\.rbac\.authorization\.k8s\.io "none" not found'):
            await bob.create(R.ROLE_BINDINGS, binding("x", "Role", "none"), namespace="a")

    run(work)


def test_the_verbs_escalate_and_bind_lift_the_limit() -> None:
    async def work(world: World) -> None:
        bob = await writer(world, roles=["escalate"], clusterroles=["bind"])
        await bob.create(R.ROLES, role("s", SECRETS), namespace="a")
        await bob.create(R.ROLE_BINDINGS, binding("all", "ClusterRole", "cluster-admin", "eve"), namespace="a")
        with pytest.raises(Forbidden, match="not currently held"):
            await bob.create(R.ROLE_BINDINGS, binding("more", "Role", "secrets"), namespace="a")

    run(work)


def test_missing_rights_are_told_shortly() -> None:
    parts = [
        {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]},
        {"verbs": ["get"], "nonResourceURLs": ["/x"]},
        {"verbs": ["list"], "apiGroups": ["apps"], "resources": ["deployments"]},
        {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["d"]},
    ]
    assert [describe(rule) for rule in compact(parts)] == [
        '{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}',
        '{NonResourceURLs:["/x"], Verbs:["get"]}',
        '{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["d"], Verbs:["get"]}',
    ]


def test_a_right_to_escalate_by_name_counts_if_the_request_names_the_role() -> None:
    """By PUT the role has a name in the path, by POST it has none."""
    role = {"metadata": {"name": "big"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"

    async def work(world: World) -> None:
        rules = [
            {"apiGroups": [RBAC], "resources": ["clusterroles"], "verbs": ["create", "update"]},
            {"apiGroups": [RBAC], "resources": ["clusterroles"], "verbs": ["escalate"], "resourceNames": ["big"]},
        ]
        await world.admin.create(R.CLUSTER_ROLES, {"metadata": {"name": "writer"}, "rules": rules})
        reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "writer"}
        subjects = [{"kind": "User", "apiGroup": RBAC, "name": "bob"}]
        binding = {"metadata": {"name": "writer"}, "roleRef": reference, "subjects": subjects}
        await world.admin.create(R.CLUSTER_ROLE_BINDINGS, binding)
        await world.settle()
        for method, url, status in (("POST", path, 403), ("PUT", f"{path}/big", 201), ("PUT", f"{path}/other", 400)):
            assert (await world.raw(method, url, role, user=("bob", ()))).status == status, (method, url)

    run(work)
