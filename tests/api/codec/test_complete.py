"""What the wire form always shows."""

from __future__ import annotations

import pytest

from tiphys.api import codec
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

ROWS = [(row, version) for row in builtin_scheme().resources() for version in row.versions]


def test_pod() -> None:
    gvk = GroupVersionKind("", "v1", "Pod")
    obj = {"metadata": {}, "spec": {"containers": [{"name": "c"}], "initContainers": [{}]}}
    assert codec.complete(obj, schema_for(gvk)) == {
        "metadata": {},
        "spec": {
            "containers": [{"name": "c", "resources": {}}],
            "initContainers": [{"name": "", "resources": {}}],
        },
        "status": {},
    }


def test_nested_maps_of_lists() -> None:
    gvk = GroupVersionKind("rbac.authorization.k8s.io", "v1", "ClusterRole")
    assert codec.complete({}, schema_for(gvk)) == {"metadata": {}, "rules": None}


def test_pointers_that_are_always_shown() -> None:
    gvk = GroupVersionKind("apps", "v1", "Deployment")
    found = codec.complete({}, schema_for(gvk))
    assert found["spec"]["selector"] is None
    assert found["spec"]["template"] == {"metadata": {}, "spec": {"containers": None}}


def test_service_status() -> None:
    gvk = GroupVersionKind("", "v1", "Service")
    found = codec.complete({"spec": {"ports": [{"port": 1}]}}, schema_for(gvk))
    assert found["status"] == {"loadBalancer": {}}
    assert found["spec"]["ports"] == [{"port": 1, "targetPort": 0}]


@pytest.mark.parametrize(("row", "version"), ROWS, ids=lambda v: getattr(v, "name", v))
def test_twice_is_once_and_each_object_has_its_own(row: object, version: str) -> None:
    schema = schema_for(row.gvk(version))  # type: ignore[attr-defined]
    first = codec.complete({}, schema)
    assert codec.complete(dict(first), schema) == first
    second = codec.complete({}, schema)
    second["metadata"]["name"] = "x"
    assert "name" not in first.get("metadata", {})


def test_encoding_puts_the_head_first() -> None:
    assert codec.encode({"spec": {}, "metadata": {}, "kind": "A", "apiVersion": "v1"}) == (
        b'{"kind":"A","apiVersion":"v1","metadata":{},"spec":{}}'
    )
    text = codec.to_yaml(b'{"b":[1,"1"],"a":"x: y","n":"y","d":"2001-01-01","l":"a\\nb\\n"}')
    assert text == b'a: \'x: y\'\nb:\n- 1\n- "1"\nd: "2001-01-01"\nl: |\n  a\n  b\n"n": "y"\n'
