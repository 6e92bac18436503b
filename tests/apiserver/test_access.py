"""Who may do what: tokens, RBAC, nodes, impersonation, reviews."""

from __future__ import annotations

import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tiphys.apiserver.call import User
from tiphys.apiserver.config import Config
from tiphys.client import resources as R
from tiphys.client.errors import Forbidden, NotFound

TOKENS = Config(seed=1, tokens={"secret": User("bob", ("devs",))})


def grant(world: World, user: str, verbs: list[str], resources: list[str]):
    async def make() -> None:
        rules = [{"apiGroups": [""], "verbs": verbs, "resources": resources}]
        await world.admin.create(R.ROLES, {"metadata": {"name": "r"}, "rules": rules}, namespace="a")
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
        subjects = [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}]
        binding = {"metadata": {"name": "b"}, "roleRef": reference, "subjects": subjects}
        await world.admin.create(R.ROLE_BINDINGS, binding, namespace="a")
        await world.settle()

    return make()


def test_a_role_opens_what_it_names() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        bob = world.client_of("bob")
        with pytest.raises(Forbidden, match='User "bob" cannot list resource "configmaps"'):
            await bob.list(R.CONFIG_MAPS, "a")
        await grant(world, "bob", ["list", "create"], ["configmaps"])
        await bob.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        assert len((await bob.list(R.CONFIG_MAPS, "a"))["items"]) == 1
        for refused in (bob.get(R.CONFIG_MAPS, "x", "a"), bob.list(R.CONFIG_MAPS), bob.list(R.SECRETS, "a")):
            with pytest.raises(Forbidden):
                await refused
        await world.admin.delete(R.ROLE_BINDINGS, "b", "a")
        await world.settle()
        with pytest.raises(Forbidden):
            await bob.list(R.CONFIG_MAPS, "a")

    run(work)


def test_static_tokens_and_strangers() -> None:
    async def work(world: World) -> None:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        me = await world.json("POST", path, {}, user=None, authorization="Bearer secret")
        assert me["status"]["userInfo"] == {"username": "bob", "groups": ["devs", "system:authenticated"]}
        wrong = await world.json("GET", "/api/v1/pods", user=None, authorization="Bearer wrong")
        assert (wrong["code"], wrong["reason"]) == (401, "Unauthorized")
        for path, code in (("/healthz", 200), ("/version", 200), ("/api/v1/pods", 403), ("/metrics", 403)):
            assert (await world.raw("GET", path, user=None)).status == code, path

    run(work, TOKENS)


def test_anonymous_callers_can_be_refused_altogether() -> None:
    async def work(world: World) -> None:
        assert (await world.raw("GET", "/version", user=None)).status == 401

    run(work, Config(anonymous=False))


def test_service_account_tokens_live_as_long_as_what_they_are_bound_to() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.PODS, pod("p"), namespace="a")
        reference = {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}
        request = {"spec": {"boundObjectRef": reference, "expirationSeconds": 600}}
        answer = await world.admin.create(
            R.SERVICE_ACCOUNTS, request, namespace="a", name="default", subresource="token"
        )
        token = answer["status"]["token"]

        async def whoami() -> dict:
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            return await world.json("POST", path, {}, user=None, authorization=f"Bearer {token}")

        me = (await whoami())["status"]["userInfo"]
        assert me["username"] == "system:serviceaccount:a:default"
        assert me["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
        review = {"spec": {"token": token}}
        found = await world.json("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
        assert found["status"]["authenticated"] is True
        await world.admin.delete(R.PODS, "p", "a")
        await world.clock.sleep(11)
        assert (await whoami())["code"] == 401

    run(work)


def test_service_account_tokens_expire() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        answer = await world.admin.create(
            R.SERVICE_ACCOUNTS, {"spec": {"expirationSeconds": 600}}, namespace="a", name="default", subresource="token"
        )
        sent = {"user": None, "authorization": f"Bearer {answer['status']['token']}"}
        assert (await world.raw("GET", "/version", **sent)).status == 200
        await world.clock.sleep(600 + 61)
        assert (await world.raw("GET", "/version", **sent)).status == 401

    run(work)


def test_impersonation_needs_permission_and_then_holds() -> None:
    async def work(world: World) -> None:
        bob = {"impersonate_user": "bob", "impersonate_group": "devs"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        me = await world.json("POST", path, {}, **bob)
        assert me["status"]["userInfo"] == {"username": "bob", "groups": ["devs", "system:authenticated"]}
        assert (await world.raw("GET", "/api/v1/pods", **bob)).status == 403
        refused = await world.json("POST", path, {}, user=("eve", ()), **bob)
        assert 'User "eve" cannot impersonate-on:user-info:create resource "selfsubjectreviews"' in refused["message"]

    run(work)


def test_a_node_sees_what_its_pods_need() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        node = world.client_of("system:node:n1", ("system:nodes",))
        await node.create(R.NODES, {"metadata": {"name": "n1"}})
        await world.settle()
        for name in ("mine", "other"):
            await world.admin.create(R.SECRETS, {"metadata": {"name": name}}, namespace="a")
        with pytest.raises(Forbidden, match="no relationship found between node 'n1' and this object"):
            await node.get(R.SECRETS, "mine", "a")
        volumes = [{"name": "v", "secret": {"secretName": "mine"}}]
        await world.admin.create(R.PODS, pod("p", nodeName="n1", volumes=volumes), namespace="a")
        await world.settle()
        assert (await node.get(R.SECRETS, "mine", "a"))["metadata"]["name"] == "mine"
        with pytest.raises(Forbidden):
            await node.get(R.SECRETS, "other", "a")
        with pytest.raises(Forbidden, match=r"can only list/watch pods with spec\.nodeName field selector"):
            await node.list(R.PODS)
        assert len((await node.list(R.PODS, field_selector="spec.nodeName=n1"))["items"]) == 1
        with pytest.raises(NotFound):
            await node.patch(R.NODES, "n2", {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(Forbidden, match="is not allowed to modify taints"):
            await node.patch(R.NODES, "n1", {"spec": {"taints": None}})

    run(work)


def test_access_reviews() -> None:
    async def work(world: World) -> None:
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        wanted = {"verb": "create", "resource": "pods", "subresource": "binding", "namespace": "a"}
        review = {"spec": {"user": "system:kube-scheduler", "resourceAttributes": wanted}}
        assert (await world.json("POST", path, review))["status"]["allowed"] is True
        review["spec"]["user"] = "bob"
        assert (await world.json("POST", path, review))["status"] == {"allowed": False}

    run(work)


def test_selectors_in_reviews_are_checked_and_what_cannot_be_read_is_told() -> None:
    async def work(world: World) -> None:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        wanted = {"verb": "list", "resource": "pods"}
        empty = await world.json("POST", path, {"spec": {"resourceAttributes": {**wanted, "fieldSelector": {}}}})
        assert empty["details"]["causes"][0]["field"] == "spec.resourceAttributes.fieldSelector.requirements"
        several = {"requirements": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}
        found = await world.json("POST", path, {"spec": {"resourceAttributes": {**wanted, "fieldSelector": several}}})
        text = "spec.resourceAttributes.fieldSelector ignored due to parse error"
        assert found["status"]["evaluationError"] == text

    run(work)


def test_requests_that_the_server_ends_in_self_defence_are_counted() -> None:
    async def work(world: World) -> None:
        late = "/api/v1/pods?resourceVersion=999999&resourceVersionMatch=NotOlderThan&timeout=1s"
        assert (await world.raw("GET", late)).status == 504
        text = (await world.raw("GET", "/metrics")).body.decode()
        (line,) = [line for line in text.splitlines() if line.startswith("apiserver_request_terminations_total{")]
        assert 'code="504"' in line
        assert 'resource="pods"' in line
        assert 'verb="LIST"' in line

    run(work)
