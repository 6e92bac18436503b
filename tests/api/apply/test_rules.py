"""Single rules of managed fields and apply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.api import codec
from tiphys.api.apply import apply, from_scale, read_applied, to_scale, update_managed_fields
from tiphys.api.apply.fieldset import ordered
from tiphys.api.apply.managers import ANCIENT, MAX_UPDATE_MANAGERS
from tiphys.api.errors import StatusError
from tiphys.api.meta import copy
from tiphys.api.object import Object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.api.structural import schema_from_structural

CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
POD = GroupVersionKind("", "v1", "Pod")
SCHEMA = schema_for(CONFIG_MAP)


def at(second: int) -> str:
    return f"2000-01-01T00:00:{second:02d}Z"


def config_map(data: Object, **meta: Any) -> Object:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x", **meta}, "data": data}


def do_apply(live: Object | None, data: Object, manager: str, second: int = 0, *, force: bool = False) -> Object:
    found = apply(live, config_map(data), manager, force=force, gvk=CONFIG_MAP, schema=SCHEMA, now=at(second))
    found["metadata"].setdefault("uid", "u")
    return found


def update(live: Object | None, data: Object, manager: str, second: int = 0) -> Object:
    new = copy(live) if live else config_map({})
    new["data"] = data
    found = update_managed_fields(live, codec.complete(new, SCHEMA), manager, CONFIG_MAP, SCHEMA, at(second))
    found["metadata"].setdefault("uid", "u")
    return found


def owned(obj: Object) -> dict[tuple[str, str], Object]:
    return {(e["manager"], e["operation"]): e["fieldsV1"].get("f:data") for e in obj["metadata"]["managedFields"]}


def test_what_is_no_longer_applied_goes() -> None:
    live = do_apply(None, {"a": "1", "b": "2"}, "m")
    live = do_apply(live, {"a": "1"}, "m", 1)
    assert live["data"] == {"a": "1"}
    assert owned(live) == {("m", "Apply"): {"f:a": {}}}


def test_what_another_owns_stays() -> None:
    live = do_apply(None, {"a": "1", "b": "2"}, "m")
    live = do_apply(live, {"b": "2"}, "n", 1)
    live = do_apply(live, {"a": "1"}, "m", 2)
    assert live["data"] == {"a": "1", "b": "2"}
    assert owned(live) == {("m", "Apply"): {"f:a": {}}, ("n", "Apply"): {"f:b": {}}}


def test_an_update_takes_what_it_changes() -> None:
    live = do_apply(None, {"a": "1", "b": "2"}, "m")
    live = update(live, {"a": "9", "b": "2"}, "editor", 1)
    assert owned(live) == {("m", "Apply"): {"f:b": {}}, ("editor", "Update"): {"f:a": {}}}
    with pytest.raises(StatusError) as caught:
        do_apply(live, {"a": "1"}, "m", 2)
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "editor" using v1: .data.a'
    assert caught.value.status["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "editor" using v1', "field": ".data.a"}
    ]
    forced = do_apply(live, {"a": "1"}, "m", 2, force=True)
    assert owned(forced) == {("m", "Apply"): {"f:a": {}}}


def test_several_conflicts_are_told_by_manager() -> None:
    live = do_apply(None, {"a": "1"}, "m")
    live = do_apply(live, {"b": "1", "c": "1"}, "n")
    with pytest.raises(StatusError) as caught:
        do_apply(live, {"a": "2", "b": "2", "c": "2"}, "p")
    assert caught.value.message == (
        'Apply failed with 3 conflicts: conflicts with "m":\n- .data.a\nconflicts with "n":\n- .data.b\n- .data.c'
    )


def test_applying_the_same_again_moves_no_time() -> None:
    live = do_apply(None, {"a": "1"}, "m", 1)
    again = do_apply(live, {"a": "1"}, "m", 2)
    assert again == live


def test_a_shared_field_is_no_conflict() -> None:
    live = do_apply(do_apply(None, {"a": "1"}, "m"), {"a": "1"}, "n", 1)
    assert owned(live) == {("m", "Apply"): {"f:a": {}}, ("n", "Apply"): {"f:a": {}}}


def test_the_oldest_updaters_are_put_together() -> None:
    live = update(None, {"k0": "0"}, "m0")
    for index in range(1, 15):
        live = update(live, {**live["data"], f"k{index}": "1"}, f"m{index}", index)
    updaters = [e["manager"] for e in live["metadata"]["managedFields"]]
    assert len(updaters) == MAX_UPDATE_MANAGERS
    assert ANCIENT in updaters
    assert updaters[-1] == "m14"


def test_an_emptied_list_forgets_the_owners() -> None:
    live = update(None, {"a": "1"}, "m")
    new = copy(live)
    new["metadata"]["managedFields"] = []
    found = update_managed_fields(live, new, "n", CONFIG_MAP, SCHEMA, at(1))
    assert "managedFields" not in found["metadata"]
    assert "managedFields" not in update(found, {"a": "2"}, "n", 2)["metadata"]


def test_broken_entries_in_a_request_are_passed_over() -> None:
    live = update(None, {"a": "1"}, "m")
    new = copy(live)
    new["metadata"]["managedFields"] = [{"manager": "x", "operation": "Steal"}]
    found = update_managed_fields(live, new, "n", CONFIG_MAP, SCHEMA, at(1))
    assert found["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_first_apply_to_an_object_without_owners() -> None:
    live = config_map({"a": "1"}, uid="u")
    found = do_apply(live, {"b": "2"}, "m", 1)
    assert owned(found) == {("m", "Apply"): {"f:b": {}}, ("before-first-apply", "Update"): {".": {}, "f:a": {}}}


def test_kubectl_takes_over_from_its_own_client_side_apply() -> None:
    note = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}'
    live = config_map({"a": "1"}, uid="u", annotations={"kubectl.kubernetes.io/last-applied-configuration": note})
    live = update_managed_fields(None, live, "kubectl-client-side-apply", CONFIG_MAP, SCHEMA, at(0))
    found = do_apply(live, {"a": "2"}, "kubectl", 1)
    assert found["data"] == {"a": "2"}
    assert '"a":"2"' in found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    escaped = do_apply(live, {"z": "<&>\u2028é", "a": "2"}, "kubectl", 1)
    kept = escaped["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert kept.startswith('{"apiVersion":"v1","data":{"a":"2","z":"\\u003c\\u0026\\u003e\\u2028é"},"kind"')
    with pytest.raises(StatusError, match="conflict"):
        do_apply(live, {"a": "2"}, "other", 1)


@pytest.mark.parametrize(
    ("applied", "code", "message"),
    [
        ({"kind": "Foo", "apiVersion": "v1"}, 400, "invalid object type: /v1, Kind=Foo"),
        (
            {**config_map({}), "metadata": {"name": "x", "managedFields": []}},
            400,
            "metadata.managedFields must be nil",
        ),
        (
            {**config_map({}), "bogus": 1},
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .bogus: field not declared in schema",
        ),
        (
            config_map({"a": 1}),
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .data.a: expected string, "
            "got &value.valueUnstructured{Value:1}",
        ),
        (
            {**config_map({}), "data": "x", "immutable": 3},
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): errors:\n"
            "  .data: expected map, got &{x}\n  .immutable: expected boolean, got &{3}",
        ),
        (
            config_map({}, finalizers=["a/b", "a/b"]),
            500,
            "failed to create typed patch object (/x; /v1, Kind=ConfigMap): .metadata.finalizers: "
            'duplicate entries for key [="a/b"]',
        ),
    ],
)
def test_what_cannot_be_applied(applied: Object, code: int, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        apply(None, applied, "m", force=False, gvk=CONFIG_MAP, schema=SCHEMA, now=at(0))
    assert (caught.value.code, caught.value.message) == (code, message)


def test_bodies_are_yaml() -> None:
    found, doubled = read_applied(b"kind: ConfigMap\ndata:\n  a: '1'\n  a: '2'\n")
    assert found == {"kind": "ConfigMap", "data": {"a": "2"}}
    assert doubled == ['line 4: key "a" already set in map']
    assert read_applied(b"") == ({}, [])
    with pytest.raises(StatusError, match="error decoding YAML: error unmarshaling JSON: while decoding JSON"):
        read_applied(b"[]")
    with pytest.raises(StatusError, match="error decoding YAML: error converting YAML to JSON: yaml: line 1"):
        read_applied(b"a: [")


def test_custom_resources_by_their_schema() -> None:
    schema = schema_from_structural(
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                        "map": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["k"],
                            "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                        },
                        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    },
                }
            },
        }
    )
    gvk = GroupVersionKind("x.io", "v1", "Foo")
    obj = {
        "kind": "Foo",
        "apiVersion": "x.io/v1",
        "metadata": {"name": "x"},
        "spec": {"set": ["a"], "map": [{"k": "1"}], "free": {"y": {"z": [1]}}},
    }
    found = apply(None, obj, "m", force=False, gvk=gvk, schema=schema, now=at(0))
    assert found["metadata"]["managedFields"][0]["fieldsV1"] == {
        "f:spec": {
            "f:free": {"f:y": {".": {}, "f:z": {}}},
            "f:map": {'k:{"k":"1"}': {".": {}, "f:k": {}}},
            "f:set": {'v:"a"': {}},
        }
    }


def test_scale_shows_who_owns_the_replicas() -> None:
    paths = {"apps/v1": ("f:spec", "f:replicas")}
    entries = [
        {
            "manager": "m",
            "operation": "Apply",
            "apiVersion": "apps/v1",
            "time": at(1),
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}},
        }
    ]
    shown = to_scale(entries, paths)
    assert shown[0]["apiVersion"] == "autoscaling/v1"
    assert shown[0]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    assert from_scale(entries, shown, "apps/v1", paths) == entries
    taken = [
        {
            "manager": "hpa",
            "operation": "Update",
            "apiVersion": "autoscaling/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
            "subresource": "scale",
        }
    ]
    found = from_scale(entries, taken, "apps/v1", paths)
    assert [(e["manager"], e["apiVersion"], e["fieldsV1"]) for e in found] == [
        ("m", "apps/v1", {"f:spec": {"f:paused": {}}}),
        ("hpa", "apps/v1", {"f:spec": {"f:replicas": {}}}),
    ]


def test_sets_are_written_in_the_originals_order() -> None:
    schema = schema_for(POD)
    containers = [{"name": "z", "image": "i"}, {"name": "a", "image": "i"}]
    spec = {"restartPolicy": "Never", "nodeSelector": {"b": "1", "a": "2"}, "containers": containers}
    new = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": spec}
    made = update_managed_fields(None, copy(new), "one", POD, schema, at(0))
    changed = copy(new)
    changed["spec"] |= {"restartPolicy": "Always", "activeDeadlineSeconds": 1}
    changed["metadata"]["managedFields"] = made["metadata"]["managedFields"]
    changed = update_managed_fields(made, changed, "two", POD, schema, at(0))
    for entry in (*made["metadata"]["managedFields"], *changed["metadata"]["managedFields"]):
        fields = entry["fieldsV1"]
        assert json.dumps(fields) == json.dumps(ordered(fields))
