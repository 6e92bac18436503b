"""Default roles and bindings that somebody changed: what they lack is added when a server starts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.apiserver.bootstrap.policy import bootstrap_policy
from tiphys.apiserver.bootstrap.reconciling import reconciled

Object = dict[str, Any]
API = "/apis/rbac.authorization.k8s.io/v1"
UPDATED = "rbac.authorization.kubernetes.io/autoupdate"


def role(*rules: Object, meta: Object | None = None, selectors: list[Object] | None = None) -> Object:
    made: Object = {"metadata": meta or {}, "rules": list(rules)}
    return made if selectors is None else {**made, "aggregationRule": {"clusterRoleSelectors": selectors}}


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> Object:
    return {"verbs": verbs.split(","), "apiGroups": [group], "resources": resources.split(","), **more}


ONE, TWO = {"matchLabels": {"a": "b"}}, {"matchLabels": {"c": "d"}}


@pytest.mark.parametrize(
    ("existing", "expected", "result"),
    [
        (role(rule("get", "pods")), role(rule("get", "pods")), role(rule("get", "pods"))),
        (role(rule("*", "*", "*")), role(rule("get", "pods", "*")), role(rule("*", "*", "*"))),
        (role(rule("get", "pods")), role(rule("get,list", "pods")), role(rule("get", "pods"), rule("list", "pods"))),
        (role(rule("get", "pods,x")), role(rule("get", "pods")), role(rule("get", "pods,x"))),
        (
            role(rule("get", "pods", resourceNames=["a"])),
            role(rule("get", "pods")),
            role(rule("get", "pods", resourceNames=["a"]), rule("get", "pods")),
        ),
        (
            role(meta={"labels": {"a": "own"}, "annotations": None}),
            role(meta={"labels": {"a": "b", "c": "d"}, "annotations": {"e": "f"}}),
            role(meta={"labels": {"a": "own", "c": "d"}, "annotations": {"e": "f"}}),
        ),
        (role(selectors=[ONE]), role(selectors=[TWO]), role(selectors=[ONE, TWO])),
        (role(), role(selectors=[ONE]), role(selectors=[ONE])),
        (role(selectors=[ONE]), role(), role()),
    ],
)
def test_what_a_role_lacks_is_added(existing: Object, expected: Object, result: Object) -> None:
    assert reconciled(existing, expected) == result


def test_a_server_that_starts_adds_what_is_missing() -> None:
    async def work(world: World) -> None:
        async def change(path: str, patch: Object) -> Object:
            return await world.json("PATCH", f"{API}/{path}", patch, content_type="application/merge-patch+json")

        default = await world.json("GET", f"{API}/clusterroles/system:node-proxier")
        extra = rule("get", "mine")
        await change("clusterroles/system:node-proxier", {"rules": [extra]})
        await change(
            "clusterroles/system:kube-dns", {"rules": [extra], "metadata": {"annotations": {UPDATED: "false"}}}
        )
        mine = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "me"}
        await change("clusterrolebindings/system:basic-user", {"subjects": [mine]})
        elsewhere = await world.json("GET", f"{API}/clusterrolebindings/system:discovery")
        await world.json("DELETE", f"{API}/clusterrolebindings/system:discovery")
        elsewhere["metadata"] = {"name": "system:discovery"}
        elsewhere["roleRef"]["name"] = "view"
        await world.json("POST", f"{API}/clusterrolebindings", elsewhere)
        await world.settle()

        await world.server._bootstrap._ensure_policy()
        await world.settle()
        after = await world.json("GET", f"{API}/clusterroles/system:node-proxier")
        assert extra in after["rules"]
        assert reconciled(after, default)["rules"] == after["rules"]
        assert any("update" in one["verbs"] or "patch" in one["verbs"] for one in after["rules"])
        assert (await world.json("GET", f"{API}/clusterroles/system:kube-dns"))["rules"] == [extra]
        bound = await world.json("GET", f"{API}/clusterrolebindings/system:basic-user")
        assert [subject["name"] for subject in bound["subjects"]] == ["me", "system:authenticated"]
        anew = await world.json("GET", f"{API}/clusterrolebindings/system:discovery")
        assert anew["roleRef"]["name"] == "system:discovery"

        versions = await revisions(world)
        await world.server._bootstrap._ensure_policy()
        await world.settle()
        assert await revisions(world) == versions, "what lacks nothing is not written"

    async def revisions(world: World) -> list[str]:
        kinds = ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
        lists = [await world.json("GET", f"{API}/{kind}") for kind in kinds]
        found = [item["metadata"]["resourceVersion"] for listed in lists for item in listed["items"]]
        assert len(found) >= len(bootstrap_policy().clusterroles)
        return found

    run(work)
