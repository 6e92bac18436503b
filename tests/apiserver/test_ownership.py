"""Who owns what after writes by subresources, other versions, and by those who may not change all that they send."""

from __future__ import annotations

import pytest

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object

DEPLOYMENTS = "/apis/apps/v1/namespaces/a/deployments"
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "c"}], "imagePullSecrets": [{}]},
        },
    },
}


async def _apply(world: World, path: str, body: Object, manager: str) -> Object:
    query = f"?fieldManager={manager}&force=true"
    return await world.json("PATCH", path + query, body, content_type="application/apply-patch+yaml")


async def _merge(world: World, path: str, body: Object, manager: str) -> Object:
    query = f"?fieldManager={manager}"
    return await world.json("PATCH", path + query, body, content_type="application/merge-patch+json")


def _owned(obj: Object) -> dict[str, Object]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"]["managedFields"]}


def test_a_write_of_the_scale_takes_the_replicas() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await _apply(world, f"{DEPLOYMENTS}/x", DEPLOYMENT, "m")
        scale = f"{DEPLOYMENTS}/x/scale?fieldManager=hpa"
        replicas = {"spec": {"replicas": 3}}
        response = await world.raw("PATCH", scale, replicas, content_type="application/merge-patch+json")
        assert "imagePullSecrets[0].name" in str(response.headers), "the object is warned of, too"
        found = await world.json("GET", f"{DEPLOYMENTS}/x")
        assert "f:replicas" not in _owned(found)["m"]["f:spec"]
        scaled = found["metadata"]["managedFields"][1]
        assert scaled["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
        assert (scaled["apiVersion"], scaled["subresource"]) == ("apps/v1", "scale")
        # As upstream has it, an entry that comes from the scale has no time.
        assert "time" not in scaled

    run(work)


@pytest.mark.parametrize(
    ("path", "obj", "status", "owned"),
    [
        (
            "/api/v1/nodes/x",
            {"apiVersion": "v1", "kind": "Node"},
            {"conditions": [{"type": "Ready", "status": "True"}]},
            {"f:metadata": {"f:labels": {"f:a": {}}}},
        ),
        (
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/x/status",
            {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema"},
            {"conditions": [{"type": "Dangling"}]},
            {"f:status": {"f:conditions": {'k:{"type":"Dangling"}': {".": {}, "f:type": {}}}}},
        ),
    ],
)
def test_what_goes_back_is_not_owned(path: str, obj: Object, status: Object, owned: Object) -> None:
    async def work(world: World) -> None:
        name = {"name": "x"}
        if path.endswith("/status"):
            spec = {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 9}
            await world.json("POST", path.removesuffix("/x/status"), {**obj, "metadata": name, "spec": spec})
        labelled = {**obj, "metadata": {**name, "labels": {"a": "b"}}, "status": status}
        found = await _apply(world, path, labelled, "m")
        assert _owned(found)["m"] == owned
        assert ("labels" in found["metadata"]) == (not path.endswith("/status"))

    run(work)


def test_a_key_that_the_wire_form_always_shows_may_be_left_out() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        found = await _apply(world, f"{DEPLOYMENTS}/x", DEPLOYMENT, "m")
        owned = _owned(found)["m"]["f:spec"]["f:template"]["f:spec"]["f:imagePullSecrets"]
        assert owned == {'k:{"name":""}': {}}

    run(work)


def test_events_are_as_strict_as_the_group_they_come_by() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        event: Object = {
            "metadata": {"name": "x"},
            "involvedObject": {"namespace": "a"},
            "message": "m",
            "type": "Normal",
        }
        await world.json("POST", "/api/v1/namespaces/a/events", event)
        old = await _merge(world, "/api/v1/namespaces/a/events/x", {"message": "n"}, "m")
        assert old["message"] == "n"
        new = await _merge(world, "/apis/events.k8s.io/v1/namespaces/a/events/x", {"note": "o"}, "m")
        assert "message" in [cause["field"] for cause in new["details"]["causes"]]

    run(work)


def test_a_put_that_creates_must_not_name_an_object_that_is_gone() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/roles/x"
        refused = await world.json("PUT", path, {"metadata": {"name": "x", "uid": "u"}})
        assert refused["message"].endswith("Precondition failed: UID in precondition: u, UID in object meta: ")
        made = await world.json("PUT", path, {"metadata": {"name": "x", "resourceVersion": "1"}})
        assert made["metadata"]["uid"]

    run(work)


def test_the_grace_of_a_deletion_stays() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = "/api/v1/namespaces/a/configmaps"
        await world.json("POST", path, {"metadata": {"name": "x", "finalizers": ["a.b/c"], "resourceVersion": "x"}})
        await world.json("DELETE", f"{path}/x")
        kept = await _merge(world, f"{path}/x", {"metadata": {"deletionGracePeriodSeconds": None}}, "m")
        assert kept["metadata"]["deletionGracePeriodSeconds"] == 0
        refused = await _merge(world, f"{path}/x", {"metadata": {"deletionGracePeriodSeconds": 5}}, "m")
        assert refused["details"]["causes"][0]["field"] == "metadata.deletionGracePeriodSeconds"

    run(work)


def test_an_emptied_selector_is_shown_as_the_wire_form_has_it() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        await world.json("POST", DEPLOYMENTS, DEPLOYMENT)
        emptied = {"spec": {"selector": {"matchLabels": {"a": None}}}}
        refused = await _merge(world, f"{DEPLOYMENTS}/x", emptied, "m")
        assert "spec.selector: Invalid value: {}: field is immutable" in refused["message"]

    run(work)
