"""Decoding of bodies, against what a v1.36 server answered to the same bodies."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.api import codec
from tiphys.api.codec import decoding
from tiphys.api.codec.jsontext import Pairs, read
from tiphys.api.codec.typed import TypedDecoder
from tiphys.api.errors import StatusError
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

RECORDED = json.loads(gzip.decompress((Path(__file__).parents[1] / "recorded/decode.json.gz").read_bytes()))
SCHEME = builtin_scheme()
POD = GroupVersionKind("", "v1", "Pod")
CONFIG_MAP = GroupVersionKind("", "v1", "ConfigMap")


def kind_of(path: str) -> GroupVersionKind:
    parts = path.partition("?")[0].strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    plural = rest[2] if rest[0] == "namespaces" and len(rest) > 2 else rest[0]
    row = SCHEME.resource(group, plural)
    assert row is not None
    return row.gvk(version)


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["body"][:60])
def test_answers_like_the_original(case: dict[str, Any]) -> None:
    gvk = kind_of(case["path"])
    validation = case["path"].partition("fieldValidation=")[2] or "Warn"
    body, content_type = case["body"].encode(), case.get("type", "application/json")
    if case["code"] == 400:
        with pytest.raises(StatusError) as caught:
            codec.decode(body, content_type, gvk, schema_for(gvk), validation)
        assert (caught.value.code, caught.value.message) == (400, case["message"])
        return
    found = codec.decode(body, content_type, gvk, schema_for(gvk), validation)
    shown = ", ".join('299 - "{}"'.format(w.replace("\\", "\\\\").replace('"', '\\"')) for w in found.warnings)
    assert shown == case.get("warning", "")


def decode(obj: Any, gvk: GroupVersionKind = POD, validation: str = "Warn") -> codec.Decoded:
    data = obj if isinstance(obj, bytes) else orjson.dumps(obj)
    return codec.decode(data, "application/json", gvk, schema_for(gvk), validation)


def pod(**spec: Any) -> dict[str, Any]:
    base = {"containers": [{"name": "c", "image": "i"}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}, "spec": {**base, **spec}}


def test_empty_values_go_and_pointers_stay() -> None:
    found = decode(
        pod(
            nodeName="",
            hostNetwork=False,
            terminationGracePeriodSeconds=0,
            securityContext={},
            volumes=[],
            nodeSelector={},
            priority=None,
            automountServiceAccountToken=False,
        )
    ).object["spec"]
    assert found == {
        "containers": [{"name": "c", "image": "i"}],
        "terminationGracePeriodSeconds": 0,
        "securityContext": {},
        "automountServiceAccountToken": False,
    }


def test_values_become_canonical() -> None:
    limits = {"cpu": "0.5", "memory": 1024, "a": 1e3, "b": None}
    spec = pod(containers=[{"name": "c", "image": "i", "resources": {"limits": limits}}])
    spec["metadata"]["deletionTimestamp"] = "2020-01-01T01:00:00.5+01:00"
    found = decode(spec).object
    assert found["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "500m",
        "memory": "1024",
        "a": "1k",
        "b": "0",
    }
    assert found["metadata"]["deletionTimestamp"] == "2020-01-01T00:00:00Z"


def test_numbers_in_quantities_are_read_as_written() -> None:
    body = orjson.dumps(pod()).replace(b'"image":"i"', b'"image":"i","resources":{"limits":{"cpu":1e3,"memory":1.50}}')
    found = decode(body).object["spec"]["containers"][0]["resources"]["limits"]
    assert found == {"cpu": "1e3", "memory": "1500m"}


def test_fields_that_come_twice_are_merged() -> None:
    meta = b'"metadata":{"name":"x"},"metadata":{"labels":{"a":"b"}}'
    body = b'{"kind":"ConfigMap","apiVersion":"v1",' + meta + b',"data":{"a":"1","a":"2"}}'
    found = decode(body, CONFIG_MAP)
    assert found.object == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "x", "labels": {"a": "b"}},
        "data": {"a": "2"},
    }
    assert found.warnings == ['duplicate field "metadata"', 'duplicate field "data.a"']


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"1","a":"1"}}',
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a" :"1","a" :"1"}}',
        b'{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}, "data": {"\\u0061": "1", "a": "1"}}',
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"b":"\\u0022:","a":"1","a":"1"}}',
        b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a"\n:"1","a"\t:"1"}}',
    ],
)
def test_no_duplicate_slips_through_the_fast_path(text: bytes) -> None:
    assert decode(text, CONFIG_MAP).warnings == ['duplicate field "data.a"']


def test_escapes_are_no_duplicates() -> None:
    text = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"a":"\\u003cb\\u003e \\":\\""}}'
    found = decode(text, CONFIG_MAP)
    assert found.warnings == []
    assert found.object["data"] == {"a": '<b> ":"'}


def test_an_emptied_managed_fields_stays() -> None:
    obj = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x", "managedFields": []}}
    assert decode(obj, CONFIG_MAP).object["metadata"]["managedFields"] == []


def test_deep_and_hostile_bodies_are_refused() -> None:
    nested = b"[" * 500 + b"]" * 500
    raw = (
        b'{"kind":"ControllerRevision","apiVersion":"apps/v1","metadata":{"name":"x"},"data":'
        + nested
        + b',"revision":1}'
    )
    gvk = GroupVersionKind("apps", "v1", "ControllerRevision")
    with pytest.raises(StatusError, match="exceeded max depth"):
        decode(raw, gvk)
    bomb = b"kind: ConfigMap\na: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%s: &%s [*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s]\n" % (n, n, *[p] * 10)
        for p, n in zip(b"a b c d e f g".split(), b"b c d e f g h".split(), strict=True)
    )
    with pytest.raises(StatusError, match="excessive aliasing"):
        codec.decode(bomb, "application/yaml", CONFIG_MAP, schema_for(CONFIG_MAP))


def test_unknown_media_types() -> None:
    with pytest.raises(StatusError) as caught:
        codec.decode(b"{}", "text/plain", POD, schema_for(POD))
    assert caught.value.code == 415
    assert codec.media_type("application/yaml; charset=utf-8") == "application/yaml"


def test_a_clean_object_takes_the_fast_path() -> None:
    data = orjson.dumps(pod(hostNetwork=True))
    assert decoding._clean(data, POD, schema_for(POD)) == orjson.loads(data)
    assert decoding._clean(orjson.dumps(pod(hostNetwork=False)), POD, schema_for(POD)) is None


def test_what_was_completed_is_clean() -> None:
    obj = codec.complete(pod(), schema_for(POD))
    assert decoding.check(schema_for(POD))(obj)


def test_the_fast_path_never_takes_what_the_slow_path_would_change() -> None:
    """Every recorded default object, and each of its fields emptied in turn."""
    for gvk in (POD, GroupVersionKind("apps", "v1", "Deployment"), GroupVersionKind("", "v1", "Service")):
        schema = schema_for(gvk)
        for obj in variants({"kind": gvk.kind, "apiVersion": gvk.api_version, **SAMPLES[gvk.kind]}):
            if not decoding.check(schema)(obj):
                continue
            node = read(orjson.dumps(obj))
            assert isinstance(node, Pairs)
            decoder = TypedDecoder()
            assert decoder.decode(node, schema) == without_nulls(obj)
            assert decoder.strict_errors == []


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


CONTAINER = {
    "name": "c",
    "image": "i",
    "ports": [{"containerPort": 80, "protocol": "TCP", "hostPort": 1}],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    "livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 1},
    "stdin": True,
}
SAMPLES: dict[str, dict[str, Any]] = {
    "Pod": {
        "metadata": {"name": "x", "labels": {"a": "b"}, "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"containers": [CONTAINER], "nodeName": "n", "hostNetwork": True, "priority": 1},
        "status": {
            "phase": "Running",
            "startTime": "2020-01-01T00:00:00Z",
            "conditions": [{"type": "R", "status": "T"}],
        },
    },
    "Deployment": {
        "metadata": {"name": "x", "annotations": {"a": "b"}},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [CONTAINER]}}, "strategy": {"type": "Recreate"}},
    },
    "Service": {
        "metadata": {"name": "x"},
        "spec": {
            "ports": [{"port": 80, "targetPort": "x", "nodePort": 3}],
            "clusterIP": "None",
            "selector": {"a": "b"},
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}},
    },
}
EMPTY = [None, "", 0, False, [], {}, 1.0, "0.5", "2020-01-01T00:00:00.5Z", "1000m", -1, "x"]


def variants(obj: Any) -> list[Any]:
    """The value with each leaf and container inside replaced by each of the odd values."""
    found = [obj]
    if isinstance(obj, dict):
        for key, value in obj.items():
            if key in ("kind", "apiVersion"):
                continue
            found += [{**obj, key: odd} for odd in EMPTY]
            found += [{**obj, key: inner} for inner in variants(value)[1:]]
    elif isinstance(obj, list):
        for index, value in enumerate(obj):
            found += [[*obj[:index], inner, *obj[index + 1 :]] for inner in variants(value)[1:]]
    return found


def test_schemas_in_definitions_hold_any_value() -> None:
    gvk = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    inner = {
        "type": "object",
        "default": {"a": None, "b": [1, {"c": 0}]},
        "enum": [1, "", False],
        "properties": {
            "a": {"default": "x", "example": 0, "items": {"type": "string"}, "additionalProperties": False},
            "b": {"additionalProperties": {"type": "string", "default": ""}, "dependencies": {"q": ["a"], "r": {}}},
        },
    }
    obj = {
        "kind": gvk.kind,
        "apiVersion": gvk.api_version,
        "metadata": {"name": "x"},
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": inner}}]},
    }
    found = decode(obj, gvk)
    assert found.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] == inner
    assert found.warnings == []
