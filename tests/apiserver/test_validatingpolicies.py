"""ValidatingAdmissionPolicies: which requests they see, what they refuse, and how they tell so."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object

GROUP = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
CONFIG_MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


def config_map(name: str = "x", labels: dict[str, str] | None = None, **data: str) -> Object:
    meta: Object = {"name": name}
    if labels:
        meta["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def validation(expression: str, **more: str) -> Object:
    return {"expression": expression, **more}


async def policy(world: World, *validations: Object, name: str = "p", **spec: Any) -> None:
    rules = spec.pop("rules", [CONFIG_MAPS])
    whole = {"matchConstraints": {"resourceRules": rules}, "validations": list(validations), **spec}
    body = {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": whole}
    answer = await world.raw("POST", f"{GROUP}/validatingadmissionpolicies", {"apiVersion": GROUP[6:], **body})
    assert answer.status == 201, answer.body
    await world.settle()


async def binding(world: World, name: str = "b", policy: str = "p", **spec: Any) -> None:
    whole = {"policyName": policy, "validationActions": ["Deny"], **spec}
    body = {"kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": whole}
    answer = await world.raw("POST", f"{GROUP}/validatingadmissionpolicybindings", {"apiVersion": GROUP[6:], **body})
    assert answer.status == 201, answer.body
    await world.settle()


def denied(reason: str) -> str:
    return f"configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {reason}"


async def create(world: World, obj: Object) -> str:
    """Empty where it is allowed; otherwise what is told."""
    answer = await world.json("POST", f"{MAPS}?dryRun=All", obj)
    return "" if answer["kind"] == "ConfigMap" else answer["message"]


def test_a_validation_that_fails_refuses_the_request() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        await policy(world, validation("object.data.a == 'b'"))
        assert await create(world, config_map(a="c")) == "", "no binding, no policy"
        await binding(world)
        assert await create(world, config_map(a="b")) == ""
        assert await create(world, config_map(a="c")) == denied("failed expression: object.data.a == 'b'")
        told = "expression 'object.data.a == 'b'' resulted in error: no such key: a"
        assert await create(world, config_map(z="c")) == denied(told)
        answer = await world.json("POST", f"{MAPS}?dryRun=All", config_map(a="c"))
        assert (answer["code"], answer["reason"]) == (422, "Invalid")
        assert answer["details"]["causes"] == [{"message": answer["message"].split("is forbidden: ")[1]}]

    run(work)


def test_messages_reasons_and_variables() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        await policy(
            world,
            validation("variables.a != 'plain'", message=" as it is "),
            validation("variables.n < 9", messageExpression="'n is ' + string(variables.n)"),
            validation("variables.a != 'lines'", messageExpression="'a\\nb'", message="one line"),
            validation("variables.a != 'no'", reason="Forbidden"),
            validation("variables.a != 'bad' || variables.bad"),
            variables=[
                {"name": "a", "expression": "object.data.a"},
                {"name": "n", "expression": "variables.a.size()"},
                {"name": "bad", "expression": "object.data.nope == 'x'"},
            ],
        )
        await binding(world)
        assert await create(world, config_map(a="plain")) == denied("as it is")
        assert await create(world, config_map(a="very long")) == denied("n is 9")
        assert await create(world, config_map(a="lines")) == denied("one line")
        assert (await world.json("POST", MAPS, config_map(a="no")))["code"] == 403
        told = 'composited variable "bad" fails to evaluate: no such key: nope'
        assert await create(world, config_map(a="bad")) == denied(
            f"expression 'variables.a != 'bad' || variables.bad' resulted in error: {told}"
        )

    run(work)


def test_a_binding_that_only_warns_and_a_policy_that_ignores_failures() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        await policy(
            world, validation("object.data.a == 'b'"), validation("object.data.z == 'z'"), failurePolicy="Ignore"
        )
        await binding(world, validationActions=["Warn"])
        answer = await world.raw("POST", f"{MAPS}?dryRun=All", config_map(a="c"))
        assert answer.status == 201
        told = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: "
        assert answer.headers["Warning"] == f"299 - \"{told}object.data.a == 'b'\""

    run(work)


def test_which_requests_are_seen() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        rules = [{**CONFIG_MAPS, "operations": ["CREATE"], "resourceNames": ["x"]}]
        conditions = [{"name": "not-me", "expression": "!has(object.data) || !has(object.data.skip)"}]
        await policy(world, validation("false", message="never"), rules=rules, matchConditions=conditions)
        await binding(world, matchResources={"objectSelector": {"matchLabels": {"watched": "yes"}}})
        watched = {"watched": "yes"}
        assert await create(world, config_map(labels=watched)) == denied("never")
        assert await create(world, config_map()) == ""
        assert await create(world, config_map("y", labels=watched)) == ""
        assert await create(world, config_map(labels=watched, skip="1")) == ""

    run(work)


def test_updates_and_deletions() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        await world.json("POST", MAPS, config_map(a="b"))
        await policy(
            world,
            validation("request.operation != 'UPDATE' || object.data.a == oldObject.data.a", message="immutable"),
            validation("request.operation != 'DELETE' || object != null", message="kept"),
        )
        await binding(world)
        assert (await world.json("PUT", f"{MAPS}/x", config_map(a="c")))["message"] == denied("immutable")
        assert (await world.json("PUT", f"{MAPS}/x", config_map(a="b", z="1")))["kind"] == "ConfigMap"
        assert (await world.json("DELETE", f"{MAPS}/x"))["message"] == denied("kept")

    run(work)


def test_the_authorizer_is_asked() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        account = "authorizer.serviceAccount('default', 'default').group('').resource('pods').namespace('default')"
        await policy(
            world,
            validation("authorizer.requestResource.check('create').allowed()", message="user"),
            validation(f"{account}.check('get').allowed()", message="account"),
        )
        await binding(world)
        assert await create(world, config_map()) == denied("account")

    run(work)


def test_parameters() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        for name, limit in (("low", "2"), ("high", "4")):
            await world.json("POST", MAPS, config_map(name, labels={"limits": "yes"}, max=limit))
        kind = {"apiVersion": "v1", "kind": "ConfigMap"}
        told = "'at most ' + params.data.max"
        await policy(
            world, validation("object.data.a.size() <= int(params.data.max)", messageExpression=told), paramKind=kind
        )
        await binding(world, paramRef={"name": "high", "parameterNotFoundAction": "Deny"})
        assert await create(world, config_map(a="aaa")) == ""
        assert await create(world, config_map(a="aaaaa")) == denied("at most 4")
        selector = {"matchLabels": {"limits": "yes"}}
        await binding(world, "c", paramRef={"selector": selector, "parameterNotFoundAction": "Deny"})
        assert (await create(world, config_map(a="aaa"))).endswith("with binding 'c' denied request: at most 2")
        await binding(world, "a", paramRef={"name": "nope", "parameterNotFoundAction": "Deny"})
        assert (await create(world, config_map(a="a"))).endswith(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        )

    run(work)


def test_a_rule_names_the_version_of_the_resource_whatever_that_of_its_scale_is() -> None:
    async def work(world: World) -> None:
        await world.namespace("default")
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
        version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        spec = {"group": "e.com", "scope": "Namespaced", "names": {"plural": "toys", "kind": "Toy"}}
        spec["versions"] = [version | {"subresources": {"scale": scale}}]
        crd = {"metadata": {"name": "toys.e.com"}, "spec": spec}
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        await world.settle()
        rule = {"apiGroups": ["e.com"], "apiVersions": ["v1beta1"], "operations": ["*"], "resources": ["toys/scale"]}
        await policy(world, validation("object.spec.replicas < 5"), rules=[rule])
        await binding(world)
        toys = "/apis/e.com/v1beta1/namespaces/default/toys"
        toy = {"apiVersion": "e.com/v1beta1", "kind": "Toy", "metadata": {"name": "a"}, "spec": {"replicas": 9}}
        assert (await world.raw("POST", toys, toy)).status == 201, "the rule is about the scale alone"
        merge = {"content_type": "application/merge-patch+json"}
        for replicas, code in ((4, 200), (6, 422)):
            answer = await world.raw("PATCH", f"{toys}/a/scale", {"spec": {"replicas": replicas}}, **merge)
            assert answer.status == code, answer.body

    run(work)
