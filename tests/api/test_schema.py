"""The field tree."""

from __future__ import annotations

from tiphys.api.definitions import definitions
from tiphys.api.resources import builtin_scheme
from tiphys.api.schema import ARRAY, OBJECT, has_schema, schema_for, schema_of
from tiphys.api.scheme import GroupVersionKind


def test_every_kind_has_the_published_fields() -> None:
    for row in builtin_scheme().resources():
        for version, name in row.definitions.items():
            assert set(schema_for(row.gvk(version)).fields) == set(definitions()[name]["properties"])


def test_list_types_and_merge_keys() -> None:
    spec = schema_for(GroupVersionKind("", "v1", "Pod")).fields["spec"].schema
    containers = spec.fields["containers"]
    assert (containers.schema.list_type, containers.schema.list_keys) == ("map", ("name",))
    assert (containers.patch_strategy, containers.merge_key) == (("merge",), "name")
    assert spec.fields["tolerations"].schema.list_type == "atomic"
    assert spec.fields["nodeSelector"].schema.map_type == "atomic"
    assert spec.fields["volumes"].patch_strategy == ("merge", "retainKeys")
    assert spec.fields["volumes"].schema.items is not None
    assert spec.fields["volumes"].schema.items.fields["hostPath"].embedded == "VolumeSource"


def test_empty_value_rules() -> None:
    pod = schema_for(GroupVersionKind("", "v1", "Pod"))
    spec = pod.fields["spec"].schema
    assert not spec.fields["containers"].omit_empty
    assert spec.fields["terminationGracePeriodSeconds"].pointer
    assert not spec.fields["nodeName"].pointer
    assert pod.fields["metadata"].schema.fields["creationTimestamp"].omit_zero


def test_types_that_contain_themselves() -> None:
    props = schema_of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
    inner = props.fields["properties"].schema.items
    assert inner is props
    assert props.kind == OBJECT
    assert props.fields["required"].schema.kind == ARRAY
    assert not has_schema("io.k8s.api.core.v1.Nope")


def test_shared_kinds() -> None:
    assert "preconditions" in schema_for(GroupVersionKind("", "v1", "DeleteOptions")).fields
