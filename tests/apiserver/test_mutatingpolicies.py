"""MutatingAdmissionPolicies: the patches they make, and how they tell that they cannot."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps?dryRun=All"
RULE = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["configmaps", "deployments"]}
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    },
}


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


def patch(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def configuration(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


async def policy(world: World, *mutations: Object, name: str = "p", **spec: Any) -> None:
    """A policy, and a binding of the same name."""
    matched = {"resourceRules": [RULE]}
    whole = {"matchConstraints": matched, "mutations": list(mutations), "reinvocationPolicy": "Never", **spec}
    for plural, kind, body in (
        ("mutatingadmissionpolicies", "MutatingAdmissionPolicy", whole),
        ("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", {"policyName": name}),
    ):
        obj = {"apiVersion": GROUP[6:], "kind": kind, "metadata": {"name": name}, "spec": body}
        answer = await world.raw("POST", f"{GROUP}/{plural}", obj)
        assert answer.status == 201, answer.body
    await world.settle()


def test_patches() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        empty = "JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}"
        key = "'/metadata/annotations/' + jsonpatch.escapeKey('b/c')"
        await policy(
            world,
            patch(f"[{empty}, JSONPatch{{op: 'add', path: {key}, value: variables.a + '!'}}]"),
            configuration("Object{metadata: Object.metadata{labels: {'seen': request.operation}}}"),
            patch("[JSONPatch{op: 'test', path: '/data/a', value: 'no'}, JSONPatch{op: 'remove', path: '/data/a'}]"),
            variables=[{"name": "a", "expression": "object.data.a"}],
        )
        found = await world.json("POST", MAPS, config_map(a="1"))
        assert found["data"] == {"a": "1"}
        assert found["metadata"]["annotations"] == {"b/c": "1!"}
        assert found["metadata"]["labels"] == {"seen": "CREATE"}

    run(work)


def test_items_are_merged_by_their_keys_and_get_defaults() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        spec = "Object.spec.template.spec"
        side = f"{spec}.containers{{name: 'side', image: 's'}}"
        more = f"{spec}.containers{{name: 'c', env: [{spec}.containers.env{{name: 'A', value: 'B'}}]}}"
        pod = f"{spec}{{containers: [{more}, {side}]}}"
        await policy(
            world, configuration(f"Object{{spec: Object.spec{{template: Object.spec.template{{spec: {pod}}}}}}}")
        )
        found = await world.json("POST", "/apis/apps/v1/namespaces/default/deployments?dryRun=All", DEPLOYMENT)
        first, second = found["spec"]["template"]["spec"]["containers"]
        assert (first["image"], first["env"]) == ("i", [{"name": "A", "value": "B"}])
        assert (second["name"], second["imagePullPolicy"]) == ("side", "Always")

    run(work)


def test_a_policy_may_see_the_object_again() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        longer = patch("[JSONPatch{op: 'replace', path: '/data/a', value: object.data.a + '.'}]")
        await policy(world, longer, name="once")
        await policy(world, longer, name="twice", reinvocationPolicy="IfNeeded")
        assert (await world.json("POST", MAPS, config_map(a="")))["data"] == {"a": "..."}

    run(work)


def test_what_cannot_be_done_is_told() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        told = "policy 'p' with binding 'p' denied request: "
        wrong = configuration("Object{metadata: Object.nope{labels: {'a': 'b'}}}")
        await policy(world, patch("[JSONPatch{op: 'add', path: '/data/z', value: object.data.nope}]"), wrong)
        answer = await world.json("POST", MAPS, config_map(a="1"))
        assert (answer["code"], answer["reason"]) == (403, "Invalid")
        causes = [cause["message"] for cause in answer["details"]["causes"]]
        assert answer["message"] == causes[0]
        assert causes[0].startswith(told)
        assert causes[0].endswith("resulted in error: no such key: nope")
        name = 'unexpected type name "Object.nope", expected "Object.metadata"'
        assert causes[1] == f"{told}type mismatch: {name}, which matches field name path from root Object type"

    run(work)


def test_a_patched_object_must_still_be_one() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        await policy(world, patch("[JSONPatch{op: 'add', path: '/nope', value: 1}]"), failurePolicy="Ignore")
        answer = await world.json("POST", MAPS, config_map(a="1"))
        assert (answer["code"], answer["message"]) == (
            500,
            'Internal error occurred: strict decoding error: unknown field "nope"',
        )

    run(work)
