"""Rules in CEL in the schema of a custom resource, evaluated: where, with which message, and when they only warn."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.validation.custom.rules import validate_rules

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}


def schema(*rules: dict[str, Any] | str, **properties: dict[str, Any]) -> dict[str, Any]:
    listed = [{"rule": rule} if isinstance(rule, str) else rule for rule in rules]
    spec = {"type": "object", "properties": properties, "x-kubernetes-validations": listed}
    return {"type": "object", "properties": {"spec": spec}}


def found(schema: dict[str, Any], spec: Any, old: Any = None, warnings: list[str] | None = None) -> list[str]:
    before = None if old is None else {"spec": old}
    return [str(error) for error in validate_rules({"spec": spec}, before, schema, warnings=warnings)]


def test_a_rule_that_is_kept_and_one_that_is_not() -> None:
    wanted = schema("self.low <= self.high", low=INTEGER, high=INTEGER)
    assert found(wanted, {"low": 1, "high": 2}) == []
    assert found(wanted, {"low": 3, "high": 2}) == ["spec: Invalid value: failed rule: self.low <= self.high"]
    told = 'spec: Invalid value: "object": no such key: high evaluating rule: self.low <= self.high'
    assert found(wanted, {"low": 3}) == [told]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"message": "too low"}, "spec: Invalid value: too low"),
        ({"messageExpression": "'got ' + string(self.x)"}, "spec: Invalid value: got 1"),
        ({"messageExpression": "'a\\nb'", "message": "plain"}, "spec: Invalid value: plain"),
        ({"messageExpression": "string(1 / (self.x - 1))"}, "spec: Invalid value: failed rule: self.x > 5"),
        ({"reason": "FieldValueForbidden", "fieldPath": ".x"}, "spec.x: Forbidden: failed rule: self.x > 5"),
        ({"reason": "FieldValueRequired", "message": "m"}, "spec: Required value: m"),
        ({"reason": "FieldValueDuplicate", "message": "m"}, "spec: Duplicate value"),
    ],
)
def test_messages_and_reasons(rule: dict[str, Any], told: str) -> None:
    assert found(schema({"rule": "self.x > 5", **rule}, x=INTEGER), {"x": 1}) == [told]


def test_rules_of_values_inside() -> None:
    positive = {**INTEGER, "x-kubernetes-validations": [{"rule": "self > 0"}]}
    wanted = schema(list={"type": "array", "items": positive}, map={"type": "object", "additionalProperties": positive})
    assert found(wanted, {"list": [1, 0], "map": {"a": -1}}) == [
        "spec.list[1]: Invalid value: 0: failed rule: self > 0",
        "spec.map[a]: Invalid value: -1: failed rule: self > 0",
    ]


def test_the_old_value() -> None:
    fixed = {**STRING, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]}
    wanted = schema(x=fixed)
    assert found(wanted, {"x": "a"}) == []
    assert found(wanted, {"x": "b"}, {}) == []
    assert found(wanted, {"x": "b"}, {"x": "a"}) == ['spec.x: Invalid value: "b": immutable']


def test_an_old_value_that_is_optional() -> None:
    rule = {"rule": "oldSelf.hasValue() ? oldSelf.value().x == self.x : self.x == 'first'", "optionalOldSelf": True}
    wanted = schema(rule, x=STRING)
    assert found(wanted, {"x": "first"}) == []
    assert len(found(wanted, {"x": "other"})) == 1
    assert len(found(wanted, {"x": "other"}, {"x": "first"})) == 1


def test_items_of_a_map_list_are_told_apart_by_their_keys() -> None:
    grows = {**INTEGER, "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}
    items = {"type": "object", "properties": {"k": STRING, "v": grows}}
    keyed = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": items}
    wanted = schema(l=keyed)
    old = {"l": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]}
    assert found(wanted, {"l": [{"k": "b", "v": 2}, {"k": "a", "v": 1}]}, old) == []
    turned = found(wanted, {"l": [{"k": "b", "v": 1}]}, old)
    assert turned == ["spec.l[0].v: Invalid value: 1: failed rule: self >= oldSelf"]


def test_what_was_wrong_before_only_warns() -> None:
    short = {**STRING, "x-kubernetes-validations": [{"rule": "self.size() < 3"}]}
    wanted, warnings = schema(x=short, y=STRING), list[str]()
    assert found(wanted, {"x": "long", "y": "b"}, {"x": "long", "y": "a"}, warnings) == []
    assert warnings == ['spec.x: Invalid value: "long": failed rule: self.size() < 3']
    assert len(found(wanted, {"x": "longer"}, {"x": "long"})) == 1


def test_values_by_their_format() -> None:
    wanted = schema(
        "self.at.getFullYear() == 2024 && self.after == duration('1h') && self.raw == b'abc'",
        "self.set == ['a', 'b'] && self.ratio > 0.5 && self.namespace == self.__namespace__",
        at={"type": "string", "format": "date-time"},
        after={"type": "string", "format": "duration"},
        raw={"type": "string", "format": "byte"},
        set={"type": "array", "x-kubernetes-list-type": "set", "items": STRING},
        ratio={"type": "number"},
        namespace=STRING,
    )
    spec = {
        "at": "2024-05-01T00:00:00Z",
        "after": "1h",
        "raw": "YWJj",
        "set": ["b", "a"],
        "ratio": 1,
        "namespace": "x",
    }
    assert found(wanted, spec) == []


def test_the_root_is_a_resource() -> None:
    rule = {"rule": "self.metadata.name == 'right'"}
    root = {"type": "object", "x-kubernetes-validations": [rule]}
    assert validate_rules({"metadata": {"name": "right"}}, None, root) == []
    [error] = validate_rules({"metadata": {"name": "wrong"}}, None, root)
    assert str(error) == "<nil>: Invalid value: failed rule: self.metadata.name == 'right'"


def test_the_budget_of_all_rules() -> None:
    costly = "lists.range(190000).all(i, i >= 0)"
    wanted = schema(costly)
    [error] = found(wanted, {})
    assert error.startswith("spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded'")
