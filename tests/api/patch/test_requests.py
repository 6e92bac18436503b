"""The three patches, against what a v1.36 server made of the same patches of the same objects."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tiphys.api import codec
from tiphys.api.defaults import apply_defaults
from tiphys.api.errors import StatusError
from tiphys.api.meta import copy
from tiphys.api.patch import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, patch_object
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind
from tiphys.api.structural import schema_from_structural

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[1] / "recorded/patch.json.gz").read_bytes()))
MASKED = ("managedFields", "uid", "resourceVersion", "creationTimestamp", "generation")


def gvk_of(path: str) -> GroupVersionKind:
    return (
        GroupVersionKind("", "v1", "ConfigMap")
        if "configmaps" in path
        else GroupVersionKind("apps", "v1", "Deployment")
    )


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda case: case["body"][:70])
def test_answers_like_the_original(case: dict[str, Any]) -> None:
    gvk = gvk_of(case["path"])
    live = copy(RECORDED["live"][case["path"]])
    request = (live, case["body"].encode(), case["type"], gvk, schema_for(gvk), case.get("validation", "Warn"))
    if "status" in case:
        with pytest.raises(StatusError) as caught:
            patch_object(*request)
        assert caught.value.status == case["status"]
    else:
        found = patch_object(*request)
        apply_defaults(found.object, gvk)
        obj = codec.complete(found.object, schema_for(gvk))
        for key in MASKED:
            obj["metadata"].pop(key, None)
        assert obj == case["object"]
        shown = ", ".join('299 - "{}"'.format(w.replace("\\", "\\\\").replace('"', '\\"')) for w in found.warnings)
        assert shown == case.get("warning", "")
    assert live == RECORDED["live"][case["path"]], "the current object was changed"


def test_ignored_warnings_are_silent() -> None:
    gvk = GroupVersionKind("", "v1", "ConfigMap")
    live = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}
    found = patch_object(live, b'{"bogus":1}', MERGE_PATCH, gvk, schema_for(gvk), "Ignore")
    assert found.warnings == []
    assert "bogus" not in found.object


@pytest.mark.parametrize(
    ("name", "code", "told"), [("kind", 422, "Object 'Kind'"), ("apiVersion", 500, "'apiVersion'")]
)
def test_custom_resources_name_their_kind(name: str, code: int, told: str) -> None:
    live = {"kind": "Foo", "apiVersion": "x.io/v1", "metadata": {"name": "x"}}
    body = f'{{"{name}":null}}'.encode()
    gvk, schema = GroupVersionKind("x.io", "v1", "Foo"), schema_from_structural(None)
    with pytest.raises(StatusError, match=told) as caught:
        patch_object(live, body, MERGE_PATCH, gvk, schema, shape=lambda _: [])
    assert caught.value.code == code


def test_custom_resources_have_no_strategic_merge() -> None:
    schema = schema_from_structural(None)
    gvk = GroupVersionKind("x.io", "v1", "Foo")
    live = {"kind": "Foo", "apiVersion": "x.io/v1", "metadata": {"name": "x"}, "spec": {"a": None}}
    with pytest.raises(StatusError, match="strategic merge patch format is not supported"):
        patch_object(live, b"{}", STRATEGIC_MERGE_PATCH, gvk, schema)
    assert patch_object(live, b'{"spec":{"b":1}}', MERGE_PATCH, gvk, schema).object["spec"] == {"a": None, "b": 1}


CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
LIVE: dict[str, Any] = {
    "kind": "Deployment",
    "apiVersion": "apps/v1",
    "metadata": {"name": "x"},
    "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}},
}


@pytest.mark.parametrize(
    ("media", "body", "told"),
    [
        (MERGE_PATCH, '{"spec":{"replicas":3.0}}', '"replicas":3.0,'),
        (JSON_PATCH, '[{"op":"replace","path":"/spec/replicas","value":3e0}]', '"replicas":3e0,'),
        (JSON_PATCH, '[{"op":"replace","path":"/spec/replicas","value":1e400}]', "value of type float64"),
        (MERGE_PATCH, '{"apiVersion":"a/b/c"}', "unexpected GroupVersion string: a/b/c"),
        (MERGE_PATCH, '{"apiVersion":null}', 'unknown field "metadata", unknown field "spec"'),
        (MERGE_PATCH, '{"spec":{"template":{"spec":{"containers":[{"x":1,"name":"a"}]}}}}', '[{"name":"a","x":1}]'),
        (STRATEGIC_MERGE_PATCH, '{"spec":{"template":null,"replicas":{"a":null}}}', "map[spec:map[replicas:map[]"),
        (STRATEGIC_MERGE_PATCH, '{"$patch":null}', "unknown patch type: %!s(<nil>) in map: map[$patch:<nil>]"),
    ],
)
def test_messages_show_the_patch_as_it_was_written(media: str, body: str, told: str) -> None:
    with pytest.raises(StatusError) as caught:
        patch_object(copy(LIVE), body.encode(), media, DEPLOYMENT, schema_for(DEPLOYMENT), "Strict")
    assert told in caught.value.message.replace("\\", "")


@pytest.mark.parametrize(("written", "kept"), [("3.0", 3), ("1099511627776", 0), ("1e30", 0)])
def test_a_strategic_merge_converts_numbers_as_go_does(written: str, kept: int) -> None:
    body = f'{{"spec":{{"replicas":{written}}}}}'.encode()
    found = patch_object(copy(LIVE), body, STRATEGIC_MERGE_PATCH, DEPLOYMENT, schema_for(DEPLOYMENT))
    assert found.object["spec"]["replicas"] == kept


def test_merge_keys_of_another_type_are_other_keys() -> None:
    body = b'{"spec":{"template":{"spec":{"containers":[{"name":"a","ports":[{"containerPort":80.0}]}]}}}}'
    found = patch_object(copy(LIVE), body, STRATEGIC_MERGE_PATCH, DEPLOYMENT, schema_for(DEPLOYMENT))
    assert found.object["spec"]["template"]["spec"]["containers"][0]["ports"] == [{"containerPort": 80}] * 2


def test_a_strategic_merge_cannot_change_the_kind() -> None:
    live = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}
    body = b'{"kind":"Pod","apiVersion":"a/b/c"}'
    found = patch_object(live, body, STRATEGIC_MERGE_PATCH, CONFIG_MAP, schema_for(CONFIG_MAP))
    assert found.object == live


def test_nulls_in_what_replaces_a_list_are_taken_out() -> None:
    body = b'{"spec":{"template":{"spec":{"containers":[{"name":"a","bogus":null}]}}}}'
    found = patch_object(copy(LIVE), body, MERGE_PATCH, DEPLOYMENT, schema_for(DEPLOYMENT), "Strict")
    assert found.object["spec"]["template"]["spec"]["containers"] == [{"name": "a"}]
