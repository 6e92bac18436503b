"""The verbs, by requests to a server in memory: what a client of Kubernetes sees."""

from __future__ import annotations

import asyncio

import pytest

from tests.apiserver.apiworld import World, config_map, pod, run
from tiphys.apiserver.config import Config
from tiphys.client import resources as R
from tiphys.client.errors import AlreadyExists, ApiError, Conflict, Invalid, NotFound


def test_create_read_update_delete() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        client = world.admin
        made = await client.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        assert made["metadata"]["uid"]
        assert made["metadata"]["namespace"] == "a"
        assert await client.get(R.CONFIG_MAPS, "x", "a") == made
        with pytest.raises(AlreadyExists, match='configmaps "x" already exists'):
            await client.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        changed = await client.update(R.CONFIG_MAPS, {**made, "data": {"a": "2"}})
        assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        with pytest.raises(Conflict, match="the object has been modified"):
            await client.update(R.CONFIG_MAPS, {**made, "data": {"a": "3"}})
        status = await client.delete(R.CONFIG_MAPS, "x", "a")
        assert (status["kind"], status["status"], status["details"]["uid"]) == (
            "Status",
            "Success",
            made["metadata"]["uid"],
        )
        with pytest.raises(NotFound):
            await client.get(R.CONFIG_MAPS, "x", "a")

    run(work)


def test_an_update_that_changes_nothing_writes_nothing() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        same = await world.admin.update(R.CONFIG_MAPS, made)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    run(work)


def test_updates_at_the_same_time_all_go_through_as_patches() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        patches = [world.admin.patch(R.CONFIG_MAPS, "x", {"data": {f"k{i}": "v"}}, "a") for i in range(20)]
        await asyncio.gather(*patches)
        found = await world.admin.get(R.CONFIG_MAPS, "x", "a")
        assert {f"k{i}" for i in range(20)} <= found["data"].keys()

    run(work)


def test_dry_run_answers_and_writes_nothing() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a", params={"dryRun": "All"})
        assert made["metadata"]["uid"]
        assert "resourceVersion" not in made["metadata"]
        with pytest.raises(NotFound):
            await world.admin.get(R.CONFIG_MAPS, "x", "a")

    run(work)


def test_generated_names() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        wanted = {"metadata": {"generateName": "x-"}}
        names = {(await world.admin.create(R.SECRETS, wanted, namespace="a"))["metadata"]["name"] for _ in range(3)}
        assert len(names) == 3
        assert all(name.startswith("x-") and len(name) == 7 for name in names)

    run(work)


def test_a_finalizer_holds_an_object_until_it_is_taken_out() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        obj = config_map("x")
        obj["metadata"]["finalizers"] = ["example.com/hold"]
        await world.admin.create(R.CONFIG_MAPS, obj, namespace="a")
        going = await world.admin.delete(R.CONFIG_MAPS, "x", "a")
        assert going["metadata"]["deletionTimestamp"]
        assert (await world.admin.get(R.CONFIG_MAPS, "x", "a"))["metadata"]["finalizers"] == ["example.com/hold"]
        await world.admin.patch(R.CONFIG_MAPS, "x", {"metadata": {"finalizers": None}}, "a")
        with pytest.raises(NotFound):
            await world.admin.get(R.CONFIG_MAPS, "x", "a")

    run(work)


def test_delete_preconditions() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        with pytest.raises(Conflict, match="UID in the precondition"):
            await world.admin.delete(R.CONFIG_MAPS, "x", "a", uid="11111111-1111-4111-8111-111111111111")
        await world.admin.delete(R.CONFIG_MAPS, "x", "a", uid=made["metadata"]["uid"])

    run(work)


def test_delete_collection_by_selector() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for i in range(4):
            await world.admin.create(R.CONFIG_MAPS, config_map(f"x{i}", odd=str(i % 2)), namespace="a")
        gone = await world.admin.delete_collection(R.CONFIG_MAPS, "a", label_selector="odd=1")
        assert [item["metadata"]["name"] for item in gone["items"]] == ["x1", "x3"]
        left = await world.admin.list(R.CONFIG_MAPS, "a")
        assert [item["metadata"]["name"] for item in left["items"]] == ["x0", "x2"]

    run(work)


def test_workers_delete_a_collection_together() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for i in range(20):
            meta = {"finalizers": ["example.com/x"]} if i == 7 else {}
            made = config_map(f"x{i:02}")
            made["metadata"] |= meta
            await world.admin.create(R.CONFIG_MAPS, made, namespace="a")
        gone = await world.admin.delete_collection(R.CONFIG_MAPS, "a")
        assert len(gone["items"]) == 20
        left = await world.admin.list(R.CONFIG_MAPS, "a")
        assert [item["metadata"]["name"] for item in left["items"]] == ["x07"]

    run(work, Config(delete_collection_workers=3))


def test_the_first_refusal_is_the_answer_once_all_workers_have_ended() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        for i in range(6):
            await world.admin.create(R.CONFIG_MAPS, config_map(f"x{i}"), namespace="a")
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "u"}}
        refused = await world.json("DELETE", "/api/v1/namespaces/a/configmaps", options)
        assert (refused["code"], "UID in the precondition" in refused["message"]) == (409, True)
        assert len((await world.admin.list(R.CONFIG_MAPS, "a"))["items"]) == 6

    run(work, Config(delete_collection_workers=3))


def test_the_service_kubernetes_has_a_node_port_if_one_is_wanted() -> None:
    async def work(world: World) -> None:
        service = await world.admin.get(R.SERVICES, "kubernetes", "default")
        assert (service["spec"]["type"], service["spec"]["ports"][0]["nodePort"]) == ("NodePort", 30443)
        spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30443}]}
        with pytest.raises(Invalid, match="provided port is already allocated"):
            await world.admin.create(R.SERVICES, {"metadata": {"name": "s"}, "spec": spec}, namespace="default")

    run(work, Config(kubernetes_node_port=30443))


def test_generation_counts_changes_of_the_spec_only() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        labels = {"app": "x"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        client = world.admin
        made = await client.create(R.DEPLOYMENTS, {"metadata": {"name": "d"}, "spec": spec}, namespace="a")
        assert (made["metadata"]["generation"], made["status"]) == (1, {})
        labelled = await client.patch(R.DEPLOYMENTS, "d", {"metadata": {"labels": {"l": "1"}}}, "a")
        assert labelled["metadata"]["generation"] == 1
        scaled = await client.patch(R.DEPLOYMENTS, "d", {"spec": {"replicas": 3}}, "a", subresource="scale")
        assert (scaled["kind"], scaled["spec"]["replicas"], scaled["status"]["selector"]) == ("Scale", 3, "app=x")
        found = await client.get(R.DEPLOYMENTS, "d", "a")
        assert (found["metadata"]["generation"], found["spec"]["replicas"]) == (2, 3)
        found["status"], found["spec"]["replicas"] = {"replicas": 3}, 99
        after = await client.update_status(R.DEPLOYMENTS, found)
        assert (after["status"]["replicas"], after["spec"]["replicas"]) == (3, 3)

    run(work)


def test_a_pod_is_bound_once() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.PODS, pod("p"), namespace="a")
        binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
        await world.admin.create(R.PODS, binding, namespace="a", name="p", subresource="binding")
        assert (await world.admin.get(R.PODS, "p", "a"))["spec"]["nodeName"] == "n1"
        with pytest.raises(Conflict, match='already assigned to node "n1"'):
            await world.admin.create(R.PODS, binding, namespace="a", name="p", subresource="binding")

    run(work)


def test_apply_creates_and_tells_conflicts() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        obj = config_map("x")
        obj["metadata"]["namespace"] = "a"
        made = await world.admin.apply(R.CONFIG_MAPS, obj, "one")
        assert [e["manager"] for e in made["metadata"]["managedFields"]] == ["one"]
        with pytest.raises(Conflict, match=r'conflicts with "one":\n- \.data\.a'):
            await world.admin.apply(R.CONFIG_MAPS, {**obj, "data": {"a": "2"}}, "two")
        forced = await world.admin.apply(R.CONFIG_MAPS, {**obj, "data": {"a": "2"}}, "two", force=True)
        assert forced["data"] == {"a": "2"}

    run(work)


def test_what_is_wrong_is_told_with_its_field() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        with pytest.raises(Invalid) as caught:
            await world.admin.create(R.CONFIG_MAPS, config_map("Not A Name"), namespace="a")
        assert caught.value.status["details"]["causes"][0]["field"] == "metadata.name"

    run(work)


@pytest.mark.parametrize(
    ("method", "path", "code", "text"),
    [
        ("GET", "/api/v1/nopes", 404, "could not find the requested resource"),
        ("GET", "/apis/apps/v9/deployments", 404, "could not find the requested resource"),
        ("POST", "/api/v1/namespaces/a/configmaps/x", 405, "does not allow this method"),
        ("POST", "/api/v1/pods", 405, "does not allow this method"),
        ("GET", "/api/v1/namespaces/a/nodes/n", 404, "could not find"),
        ("DELETE", "/api/v1/namespaces/kube-system", 403, "this namespace may not be deleted"),
        ("GET", "/api/v1/namespaces/a/configmaps?labelSelector=a~b", 400, "unable to parse requirement"),
        ("GET", "/api/v1/namespaces/a/configmaps?fieldSelector=x%3Dy", 400, "is not a known field selector"),
        ("GET", "/api/v1/namespaces/a/configmaps?continue=nonsense", 400, "continue key is not valid"),
        ("GET", "/api/v1/namespaces/a/configmaps?resourceVersion=x", 400, "invalid syntax"),
        ("GET", "/api/v1/namespaces/a/configmaps?resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden"),
        ("PATCH", "/api/v1/namespaces/a/configmaps/x", 415, "415: Unsupported Media Type"),
    ],
)
def test_refusals(method: str, path: str, code: int, text: str) -> None:
    async def work(world: World) -> None:
        response = await world.raw(method, path, {} if method in ("POST", "PATCH") else None)
        assert response.status == code
        assert text.encode() in response.body

    run(work)


def test_hostile_bodies_are_refused_with_a_status() -> None:
    bodies = [b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 5000, b'{"kind":7}', b'{"metadata":[]}', b"1e999"]

    async def work(world: World) -> None:
        await world.namespace("a")
        for body in bodies:
            found = await world.json("POST", "/api/v1/namespaces/a/configmaps", body)
            assert (found["kind"], found["code"]) in (("Status", 400), ("Status", 422)), body
        assert (await world.admin.list(R.CONFIG_MAPS, "a"))["items"] == []

    run(work)


def test_a_missing_namespace_refuses_what_is_created_in_it() -> None:
    async def work(world: World) -> None:
        with pytest.raises(NotFound, match='namespaces "none" not found'):
            await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="none")

    run(work)


def test_a_terminating_namespace_takes_nothing_new_and_goes_when_finalized() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        going = await world.admin.delete(R.NAMESPACES, "a")
        assert going["status"]["phase"] == "Terminating"
        with pytest.raises(ApiError, match="because it is being terminated"):
            await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        going["spec"]["finalizers"] = []
        await world.admin.update(R.NAMESPACES, going, subresource="finalize")
        with pytest.raises(NotFound):
            await world.admin.get(R.NAMESPACES, "a")

    run(work)


def test_options_of_what_is_proxied_are_carried_on() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        carried_on = await world.raw("OPTIONS", "/api/v1/namespaces/a/pods/x/proxy/")
        assert carried_on.status == 404
        assert b'pods \\"x\\" not found' in carried_on.body
        assert (await world.raw("OPTIONS", "/api/v1/namespaces/a/pods/x")).status == 405

    run(work)


def test_the_options_of_a_delete_come_in_every_form() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = "/api/v1/namespaces/a/configmaps/x"
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        # DeleteOptions of v1, in the protobuf envelope, with dryRun: [All]
        body = b"k8s\0" + b"\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions" + b"\x12\x05\x2a\x03All"
        sent = {"content_type": "application/vnd.kubernetes.protobuf"}
        assert (await world.raw("DELETE", path, body, **sent)).status == 200
        assert (await world.raw("DELETE", path, b"no protobuf", **sent)).status == 400
        assert (await world.raw("DELETE", path, b"dryRun: [", content_type="application/yaml")).status == 400
        assert (await world.raw("GET", path)).status == 200
        assert (await world.raw("DELETE", path, b"dryRun: []", content_type="application/yaml")).status == 200
        assert (await world.raw("GET", path)).status == 404

    run(work)


def test_the_order_of_keys_is_no_change() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        made = await world.admin.create(R.CONFIG_MAPS, {**config_map("x"), "data": {"a": "1", "b": "2"}}, namespace="a")
        same = await world.admin.update(R.CONFIG_MAPS, {**made, "data": {"b": "2", "a": "1"}})
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    run(work)


@pytest.mark.parametrize(
    ("method", "query", "body", "told"),
    [
        ("PATCH", "", {"metadata": {"resourceVersion": "x"}}, 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("PATCH", "?fieldManager=a%0a", {}, "invalid character U+000A (at position 1)"),
        ("PATCH", "?dryRun=", {}, 'dryRun: Unsupported value: [""]: supported values: "All"'),
    ],
)
def test_odd_writes_are_refused(method: str, query: str, body: dict[str, object], told: str) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        path = f"/api/v1/namespaces/a/configmaps/x{query}"
        found = await world.json(method, path, body, content_type="application/merge-patch+json")
        assert told in found["message"]

    run(work)


def test_owners_that_come_twice_are_kept_once() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
        response = await world.raw(
            "PATCH",
            "/api/v1/namespaces/a/configmaps/x",
            {"metadata": {"ownerReferences": [owner, owner]}},
            content_type="application/merge-patch+json",
        )
        assert response.status == 200
        assert "duplicate entries after mutating admission happens" in str(response.headers)
        found = await world.admin.get(R.CONFIG_MAPS, "x", "a")
        assert found["metadata"]["ownerReferences"] == [owner]

    run(work)


def test_an_update_that_changes_nothing_answers_with_the_newest_state() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.admin.create(R.CONFIG_MAPS, config_map("x"), namespace="a")
        patched = await world.admin.patch(R.CONFIG_MAPS, "x", {"data": {"n": "1"}}, "a")
        same = await world.admin.patch(R.CONFIG_MAPS, "x", {"metadata": {}}, "a")
        assert same == patched

    run(work)


@pytest.mark.parametrize(
    ("method", "path", "accept", "code", "media", "told"),
    [
        ("GET", "configmaps/x", "application/yaml", 404, "application/yaml", b"code: 404\n"),
        ("GET", "configmaps/x", "text/html", 406, "application/json", b'{\n  "kind": "Status"'),
        ("GET", "configmaps/x?pretty=true", "", 404, "application/json", b'{\n  "kind": "Status"'),
        ("GET", "configmaps", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", 406, "application/json",
         b"but the requested object is a list (*core.ConfigMapList)"),
        ("PATCH", "configmaps", "", 405, "application/json", b"does not allow this method"),
        ("PUT", "bindings/x", "", 404, "application/json", b"could not find the requested resource"),
    ],
)  # fmt: skip
def test_failures_are_shown_as_the_client_likes(
    method: str, path: str, accept: str, code: int, media: str, told: bytes
) -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        sent = {"accept": accept, "content_type": "application/merge-patch+json"}
        response = await world.raw(method, f"/api/v1/namespaces/a/{path}", {}, **sent)
        assert (response.status, response.headers["Content-Type"]) == (code, media)
        assert isinstance(response.body, bytes)
        assert told in response.body

    run(work)
