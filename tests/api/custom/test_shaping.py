"""Pruning, nulls and defaults of custom resources."""

from __future__ import annotations

from tiphys.api.custom.shaping import default, drop_nulls, prune, shape
from tiphys.api.object import Object

SPEC = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "default": 1},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "items": {
            "type": "array",
            "items": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}},
        },
    },
}
SCHEMA: Object = {"type": "object", "properties": {"spec": SPEC}}


def test_unknown_fields_go_and_are_named() -> None:
    obj = {"kind": "K", "metadata": {"any": 1}, "spec": {"bad": 1, "items": [{"a": "1", "b": 2}]}, "top": 1}
    assert prune(obj, SCHEMA) == ["spec.bad", "spec.items[0].b", "top"]
    assert obj == {"kind": "K", "metadata": {"any": 1}, "spec": {"items": [{"a": "1"}]}}


def test_what_preserves_unknown_fields_keeps_them() -> None:
    obj = {"spec": {"free": {"deep": {"er": [{"x": 1}]}}, "labels": {"a": "b"}}}
    assert prune(obj, SCHEMA) == []


def test_without_a_schema_nothing_but_the_implied_fields_stays() -> None:
    obj = {"apiVersion": "v1", "kind": "K", "metadata": {}, "spec": {}}
    assert prune(obj, None) == ["spec"]


def test_nulls_go_where_none_are_allowed_and_no_default_is_waiting() -> None:
    schema = {"properties": {"a": {"nullable": True}, "b": {}, "c": {"default": 1}}}
    obj = {"a": None, "b": None, "c": None, "d": None}
    drop_nulls(obj, schema)
    assert obj == {"a": None, "c": None, "d": None}
    default(obj, schema)
    assert obj == {"a": None, "c": 1, "d": None}


def test_defaults_are_set_inside_what_is_there() -> None:
    obj: Object = {"spec": {"items": [{}, {"a": "y"}]}}
    default(obj, SCHEMA)
    assert obj == {"spec": {"size": 1, "items": [{"a": "x"}, {"a": "y"}]}}
    empty: Object = {}
    default(empty, SCHEMA)
    assert empty == {}


def test_a_default_is_each_object_s_own() -> None:
    schema = {"properties": {"a": {"default": {"b": []}}}}
    one: Object = {}
    other: Object = {}
    default(one, schema)
    default(other, schema)
    one["a"]["b"].append(1)
    assert other == {"a": {"b": []}}


def test_shape_does_all_of_it_and_leaves_the_head_alone() -> None:
    obj = {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "spec": {"free": None, "no": 1}}
    shape(obj, SCHEMA)
    assert obj == {"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "x"}, "spec": {"size": 1}}
