"""What is told about a value that its schema does not allow."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.validation.custom.schemas import validate


def told(value: Any, schema: dict[str, Any], **more: Any) -> list[str]:
    return [str(error) for error in validate(value, schema, **more)]


def field(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}}


@pytest.mark.parametrize(
    ("value", "schema", "error"),
    [
        ("a", {"type": "integer"}, 'Invalid value: "string": f in body must be of type integer: "string"'),
        (None, {"type": "string"}, 'Invalid value: "null": f in body must be of type string: "null"'),
        ("a", {"type": "string", "enum": ["b", "c"]}, 'Unsupported value: "a": supported values: "b", "c"'),
        (11, {"type": "integer", "maximum": 10}, "Invalid value: 11: f in body should be less than or equal to 10"),
        (1, {"type": "number", "minimum": 1, "exclusiveMinimum": True},
         "Invalid value: 1: f in body should be greater than 1"),
        (5, {"type": "integer", "multipleOf": 2}, "Invalid value: 5: f in body should be a multiple of 2"),
        ("abc", {"type": "string", "maxLength": 2}, "Too long: may not be more than 2 bytes"),
        ("a", {"type": "string", "minLength": 2}, 'Invalid value: "a": f in body should be at least 2 chars long'),
        ("a", {"type": "string", "pattern": "^b$"}, "Invalid value: \"a\": f in body should match '^b$'"),
        ("a", {"type": "string", "format": "date"}, 'Invalid value: "a": f in body must be of type date: "a"'),
        ([1, 2], {"type": "array", "maxItems": 1}, "Too many: 2: must have at most 1 item"),
        ([], {"type": "array", "minItems": 1}, "Invalid value: 0: f in body should have at least 1 items"),
        ({}, {"type": "object", "minProperties": 1}, "Invalid value: 0: f in body should have at least 1 properties"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit(value: Any, schema: dict[str, Any], error: str) -> None:
    assert told({"f": value}, field("f", schema)) == [f"f: {error}"]


def test_what_is_required_is_told_at_its_own_place() -> None:
    assert told({"spec": {}}, field("spec", {"type": "object", "required": ["a"]})) == ["spec.a: Required value"]


def test_logical_parts_tell_of_the_whole_and_of_the_best_fit() -> None:
    schema = {"type": "string", "oneOf": [{"maxLength": 1}, {"pattern": "^x"}]}
    whole = '<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). '
    assert told({"f": "yy"}, field("f", schema))[0] == whole + "Found none valid"
    assert told({"f": "x"}, field("f", schema)) == [whole + "Found 2 valid alternatives"]
    assert told({"f": "xx"}, field("f", schema)) == []
    no = {"type": "string", "not": {"pattern": "^x"}}
    assert told({"f": "x"}, field("f", no)) == ['<nil>: Invalid value: "": "f" must not validate the schema (not)']


def test_whole_numbers_of_a_float_are_integers_and_others_are_not() -> None:
    assert told({"f": 1.0}, field("f", {"type": "integer"})) == []
    assert told({"f": 1.5}, field("f", {"type": "integer"})) == [
        'f: Invalid value: "number": f in body must be of type integer: "number"',
        '<nil>: Invalid value: "": Checked value must be of type integer (default format) in f',
    ]


def test_int_or_string_takes_both() -> None:
    schema = field("f", {"x-kubernetes-int-or-string": True})
    assert told({"f": 1}, schema) == told({"f": "a"}, schema) == []
    assert len(told({"f": True}, schema)) == 1


def test_an_update_may_keep_what_was_wrong() -> None:
    schema = field("f", {"type": "string", "maxLength": 1})
    assert told({"f": "long"}, schema, old={"f": "long"}) == []
    assert told({"f": "long"}, schema, old={"f": "other"}) != []


def test_items_of_a_keyed_list_are_found_again_by_their_keys() -> None:
    item = {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}
    keyed = {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    old = {"f": [{"k": "a", "v": "long"}]}
    new = {"f": [{"k": "b", "v": "x"}, {"k": "a", "v": "long"}]}
    assert told(new, field("f", keyed), old=old) == []
    assert told(new, field("f", {"type": "array", "items": item}), old=old) != []
