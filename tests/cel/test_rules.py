"""Rules in the schema of a custom resource: types from the schema, and what they cost at most."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.cel.parsing.escaping import escape
from tiphys.cel.rules import CompiledRule, Scope
from tiphys.cel.schema.schematypes import decl_type

STRING: dict[str, Any] = {"type": "string"}


def scope(schema: dict[str, Any], *, is_resource: bool = False) -> Scope:
    decl = decl_type(schema, is_resource=is_resource)
    assert decl is not None
    return Scope(decl)


def compile(rule: str, **properties: dict[str, Any]) -> CompiledRule:
    return scope({"type": "object", "properties": properties}).compile({"rule": rule})


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"type": "string", "format": "date-time"}, "self.x.getFullYear() > 2000"),
        ({"type": "string", "format": "duration"}, "self.x > duration('1h')"),
        ({"type": "string", "format": "byte"}, "self.x == b'abc'"),
        ({"x-kubernetes-int-or-string": True}, "self.x == 1 || self.x == '1'"),
        ({"type": "array", "items": {"type": "integer"}}, "self.x.all(i, i > 1)"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "self.x.all(k, self.x[k] > 1)"),
        ({"type": "object", "properties": {"namespace": STRING}}, "self.x.namespace == self.x.__namespace__"),
        (
            {"type": "object", "properties": {"a-b.c/d__e": STRING}},
            "self.x.a__dash__b__dot__c__slash__d__underscores__e != ''",
        ),
        ({"type": "object", "x-kubernetes-embedded-resource": True}, "self.x.metadata.name == self.x.kind"),
    ],
)
def test_types_of_a_schema(schema: dict[str, Any], rule: str) -> None:
    assert compile(rule, x=schema).error == ""


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("self.nope", "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope\n | ....^"),
        ("self.x", "cel expression must evaluate to a bool"),
        ("self.x.find('(') == ''", "program instantiation failed: error parsing regexp: missing closing ): `(`"),
        ("string(null) == ''", "program instantiation failed: no such overload: string(null_type)"),
    ],
)
def test_what_is_wrong(rule: str, told: str) -> None:
    assert compile(rule, x=STRING).error == told


def test_a_resource_has_metadata() -> None:
    root = scope({"type": "object"}, is_resource=True)
    assert root.compile({"rule": "self.metadata.name == self.kind"}).error == ""
    assert "undefined field 'labels'" in root.compile({"rule": "has(self.metadata.labels)"}).error


def test_the_message_is_a_string() -> None:
    wanted = scope({"type": "object", "properties": {"x": {"type": "integer"}}})
    assert wanted.compile({"rule": "true", "messageExpression": "string(self.x)"}).message_error == ""
    found = wanted.compile({"rule": "true", "messageExpression": "self.x"})
    assert found.message_error == "messageExpression must evaluate to a string"


def test_the_old_value_may_be_optional() -> None:
    wanted = scope({"type": "object", "properties": {"x": STRING}})
    assert wanted.compile({"rule": "self.x == oldSelf.x"}).uses_old_self
    optional = {"rule": "oldSelf.hasValue() && oldSelf.value().x == self.x", "optionalOldSelf": True}
    assert wanted.compile(optional).error == ""
    assert not wanted.compile({"rule": "self.x == ''"}).uses_old_self


LIST, TEN = {"type": "array", "items": STRING}, {"type": "array", "maxItems": 10, "items": {**STRING, "maxLength": 5}}


@pytest.mark.parametrize(
    ("rule", "schema", "cost"),
    [
        ("true", STRING, 0),
        ("self.x == 'abc'", STRING, 3),
        ("self.x == self.x", STRING, 314577),
        ("self.x.startsWith('abc')", STRING, 3),
        ("self.x.contains('abc')", STRING, 314575),
        ("self.x.matches('^abc')", STRING, 314575),
        ("self.x.all(i, i == 'abc')", TEN, 53),
        ("self.x.all(i, self.x.all(j, i == j))", TEN, 763),
        ("self.x.all(i, self.x.all(j, i == j))", LIST, 345881509131242703),
        ("has(self.x)", STRING, 1),
        ("self.x.join(',').size() > 1", TEN, 25),
        ("self.x.isSorted()", TEN, 32),
        ("sets.contains(self.x, ['a'])", TEN, 23),
        ("lists.range(100).all(i, i > 0)", TEN, 612),
        ("quantity(self.x).isInteger()", {**STRING, "maxLength": 10}, 7),
    ],
)
def test_cost(rule: str, schema: dict[str, Any], cost: int) -> None:
    assert compile(rule, x=schema).cost == cost


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("plain", "plain"),
        ("namespace", "__namespace__"),
        ("a-b", "a__dash__b"),
        ("a__b", "a__underscores__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("__namespace__", "__underscores__namespace__underscores__"),  # not what stands for the reserved word
        ("1a", None),
        ("é", None),
        ("", None),
    ],
)
def test_escaping(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped
