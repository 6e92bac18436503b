"""Custom resources, from the definition to the last object, as clients see them."""

from __future__ import annotations

from typing import Any

from tests.apiserver.apiworld import World, run
from tiphys.api.object import Object

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TOYS = "/apis/example.com/v1/namespaces/default/toys"
MERGE = "application/merge-patch+json"
SPEC = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "default": 1},
        "color": {"type": "string", "maxLength": 5},
        "n": {"type": "integer"},
    },
}
SCHEMA: Object = {
    "type": "object",
    "properties": {"spec": SPEC, "status": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}
SCALE = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}


def definition(plural: str = "toys", kind: str = "Toy", **version: Any) -> Object:
    versions = [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}, **version}]
    names = {"plural": plural, "kind": kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions},
    }


def toy(name: str, **spec: Any) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Toy", "metadata": {"name": name}, "spec": spec}


async def define(world: World, obj: Object | None = None) -> Object:
    """The definition once it is served."""
    created = await world.json("POST", DEFINITIONS, obj or definition())
    await world.settle()
    return await world.json("GET", f"{DEFINITIONS}/{created['metadata']['name']}")


def conditions(obj: Object) -> dict[str, str]:
    return {c["type"]: f"{c['status']} {c['reason']}" for c in obj["status"]["conditions"]}


def test_a_definition_gets_its_names_and_is_established() -> None:
    async def work(world: World) -> None:
        created = await world.json("POST", DEFINITIONS, definition())
        assert created["status"] == {
            "conditions": None,
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": ["v1"],
        }
        await world.settle()
        found = await world.json("GET", f"{DEFINITIONS}/toys.example.com")
        assert conditions(found) == {"NamesAccepted": "True NoConflicts", "Established": "True InitialNamesAccepted"}
        names = {"plural": "toys", "singular": "toy", "kind": "Toy", "listKind": "ToyList"}
        assert found["status"]["acceptedNames"] == names
        assert found["metadata"]["generation"] == 1
        served = await world.json("GET", "/apis/example.com/v1")
        assert [row["name"] for row in served["resources"]] == ["toys"]

    run(work)


def test_a_name_that_is_taken_is_not_accepted_until_it_is_free() -> None:
    async def work(world: World) -> None:
        await define(world)
        other = await define(world, definition("gadgets", "Toy"))
        assert conditions(other)["NamesAccepted"] == "False ListKindConflict"
        assert conditions(other)["Established"] == "False NotAccepted"
        assert (await world.raw("GET", "/apis/example.com/v1/gadgets")).status == 404
        await world.json("DELETE", f"{DEFINITIONS}/toys.example.com")
        await world.settle()
        assert (await world.raw("GET", "/apis/example.com/v1/gadgets")).status == 200

    run(work)


def test_objects_are_pruned_defaulted_and_validated() -> None:
    async def work(world: World) -> None:
        await define(world)
        answer = await world.raw("POST", TOYS, toy("a", color="red", odd=1))
        assert (answer.status, answer.headers["Warning"]) == (201, '299 - "unknown field \\"spec.odd\\""')
        assert (await world.json("GET", f"{TOYS}/a"))["spec"] == {"color": "red", "size": 1}
        strict = await world.json("POST", f"{TOYS}?fieldValidation=Strict", toy("b", odd=1))
        told = 'Toy in version "v1" cannot be handled as a Toy: strict decoding error: unknown field "spec.odd"'
        assert strict["message"] == told
        refused = await world.json("POST", TOYS, toy("b", color="purple"))
        assert (
            refused["message"] == 'Toy.example.com "b" is invalid: spec.color: Too long: may not be more than 5 bytes'
        )
        mixed = await world.json("POST", TOYS, {**toy("b"), "kind": "Other"})
        assert mixed["message"] == 'Other.example.com "b" is invalid: kind: Invalid value: "Other": must be Toy'

    run(work)


def test_what_breaks_a_later_rule_may_stay_with_a_warning() -> None:
    async def work(world: World) -> None:
        found = await define(world)
        await world.json("POST", TOYS, toy("a", color="red"))
        rule = {"x-kubernetes-validations": [{"rule": "self != 'red'", "message": "not red"}]}
        color = SPEC["properties"]["color"] | rule
        schema = {
            "type": "object",
            "properties": {"spec": SPEC | {"properties": SPEC["properties"] | {"color": color}}},
        }
        found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
        await world.json("PUT", f"{DEFINITIONS}/toys.example.com", found)
        await world.settle()
        patch = await world.raw("PATCH", f"{TOYS}/a", {"spec": {"n": 3}}, content_type=MERGE)
        assert patch.headers["Warning"] == '299 - "spec.color: Invalid value: \\"red\\": not red"'
        refused = await world.json("POST", TOYS, toy("b", color="red"))
        assert refused["message"] == 'Toy.example.com "b" is invalid: spec.color: Invalid value: "red": not red'

    run(work)


def test_status_and_scale_are_written_by_themselves() -> None:
    async def work(world: World) -> None:
        await define(world, definition(subresources={"status": {}, "scale": SCALE}))
        created = await world.json("POST", TOYS, {**toy("a", n=2), "status": {"n": 9}})
        assert "status" not in created
        await world.json("PATCH", f"{TOYS}/a/status", {"status": {"n": 1}, "spec": {"n": 7}}, content_type=MERGE)
        scale = await world.json("GET", f"{TOYS}/a/scale")
        assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 2}, {"replicas": 1})
        await world.json("PATCH", f"{TOYS}/a/scale", {"spec": {"replicas": 5}}, content_type=MERGE)
        found = await world.json("GET", f"{TOYS}/a")
        assert (found["spec"]["n"], found["status"], found["metadata"]["generation"]) == (5, {"n": 1}, 2)

    run(work)


def test_versions_differ_in_their_schema_and_share_their_objects() -> None:
    async def work(world: World) -> None:
        obj = definition()
        older = {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        }
        obj["spec"]["versions"].append(
            {"name": "v1beta1", "served": True, "storage": False, "deprecated": True,
             "schema": {"openAPIV3Schema": older}}
        )  # fmt: skip
        await define(world, obj)
        await world.json("POST", TOYS, toy("a", color="red", size=2))
        answer = await world.raw("GET", TOYS.replace("v1", "v1beta1") + "/a")
        assert "example.com/v1beta1 Toy is deprecated; use example.com/v1 Toy" in answer.headers["Warning"]
        found = await world.json("GET", TOYS.replace("v1", "v1beta1") + "/a")
        assert (found["apiVersion"], found["spec"]) == ("example.com/v1beta1", {"size": 2})
        group = await world.json("GET", "/apis/example.com")
        assert [version["version"] for version in group["versions"]] == ["v1", "v1beta1"]

    run(work)


def test_selectors_and_columns_of_a_definition() -> None:
    async def work(world: World) -> None:
        column = {"name": "Color", "type": "string", "jsonPath": ".spec.color"}
        await define(
            world, definition(selectableFields=[{"jsonPath": ".spec.color"}], additionalPrinterColumns=[column])
        )
        for name, color in (("a", "red"), ("b", "blue")):
            await world.json("POST", TOYS, toy(name, color=color))
        found = await world.json("GET", f"{TOYS}?fieldSelector=spec.color%3Dblue")
        assert (found["kind"], [item["metadata"]["name"] for item in found["items"]]) == ("ToyList", ["b"])
        assert (await world.raw("GET", f"{TOYS}?fieldSelector=spec.size%3D1")).status == 400
        table = await world.json("GET", TOYS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert [header["name"] for header in table["columnDefinitions"]] == ["Name", "Color"]
        assert [row["cells"] for row in table["rows"]] == [["a", "red"], ["b", "blue"]]

    run(work)


def test_a_definition_takes_its_objects_with_it() -> None:
    async def work(world: World) -> None:
        await define(world)
        await world.json("POST", TOYS, {**toy("a"), "metadata": {"name": "a", "finalizers": ["example.com/wait"]}})
        deleted = await world.json("DELETE", f"{DEFINITIONS}/toys.example.com")
        assert conditions(deleted)["Terminating"] == "True InstanceDeletionPending"
        await world.settle()
        refused = await world.json("POST", TOYS, toy("b"))
        reason = "create not allowed while custom resource definition is terminating"
        assert refused["message"] == f'toys.example.com "b" is forbidden: {reason}'
        await world.json("PATCH", f"{TOYS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
        await world.clock.sleep(6)
        assert (await world.raw("GET", f"{DEFINITIONS}/toys.example.com")).status == 404
        assert (await world.raw("GET", TOYS)).status == 404

    run(work)


def test_empty_metadata_of_what_is_applied_is_none() -> None:
    async def work(world: World) -> None:
        await define(world)
        applied = toy("a")
        applied["metadata"] |= {"labels": {}, "annotations": {}, "ownerReferences": []}
        query = "?fieldManager=m"
        found = await world.json("PATCH", f"{TOYS}/a{query}", applied, content_type="application/apply-patch+yaml")
        assert not {"labels", "annotations", "ownerReferences"} & found["metadata"].keys()

    run(work)
