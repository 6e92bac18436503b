"""Label and field selectors."""

from __future__ import annotations

import pytest

from tiphys.api.meta.selectors import (
    EVERYTHING,
    NOTHING,
    SelectorError,
    parse_field_selector,
    parse_label_selector,
    selector_from_labels,
    selector_from_object,
)

LABELS = {"a": "1", "b": "2", "n": "10"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("a=1", True),
        ("a==1", True),
        ("a!=1", False),
        ("c!=1", True),
        ("a in (1,3)", True),
        ("a notin (1,3)", False),
        ("c notin (1)", True),
        ("a", True),
        ("!a", False),
        ("!c", True),
        ("c", False),
        ("n>9,n<11", True),
        ("n>10", False),
        ("b>1", True),
        ("a=1,b in (2)", True),
        ("a=", False),
        ("a in ()", False),
        (" a  =  1 , ! c ", True),
        ("a\0=1", True),
        ("a=1\0", True),
        ("a=1,\0b=2", True),
        ("in in (in)", False),
    ],
)
def test_matching(text: str, matches: bool) -> None:
    assert parse_label_selector(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a ~ b", "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt"),
        (
            "n>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
            "the value must be an integer",
        ),
        ("!", "unable to parse requirement: found '', expected: identifier"),
    ],
)
def test_messages(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_label_selector(text)
    assert str(caught.value) == message


def test_bad_keys_and_values_are_told() -> None:
    with pytest.raises(SelectorError, match='<nil>: Invalid value: "a/b/c": a valid label key'):
        parse_label_selector("a/b/c=1")
    with pytest.raises(SelectorError, match=r'values\[0\]\[a\]: Invalid value: "-": a valid label must be'):
        parse_label_selector("a=-")
    with pytest.raises(SelectorError, match="prefix part must be no more than 253 bytes"):
        parse_label_selector("a" * 254 + "/b")


def test_text_form_is_ordered() -> None:
    assert str(parse_label_selector("z,b in (2,1),!a,n>5,m!=3")) == "!a,b in (1,2),m!=3,n>5,z"
    assert parse_label_selector("a=1,b=2") == parse_label_selector("b=2,a=1")


def test_objects() -> None:
    assert selector_from_object(None) is NOTHING
    assert not NOTHING.matches({})
    assert selector_from_object({}).empty
    found = selector_from_object(
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}
    )
    assert found.matches(LABELS)
    assert found.exact("a") == "1"
    with pytest.raises(SelectorError, match='"Near" is not a valid label selector operator'):
        selector_from_object({"matchExpressions": [{"key": "c", "operator": "Near"}]})
    assert selector_from_labels({"a": "1"}).matches(LABELS)
    assert selector_from_labels({}) == EVERYTHING


def test_field_selectors() -> None:
    found = parse_field_selector("metadata.name=a\\,b,spec.x!=c,spec.y==d")
    assert found.exact("metadata.name") == "a,b"
    assert found.exact("spec.y") == "d"
    assert found.matches({"metadata.name": "a,b", "spec.y": "d"})
    assert not found.matches({"metadata.name": "a,b", "spec.y": "d", "spec.x": "c"})
    assert str(found) == "metadata.name=a\\,b,spec.x!=c,spec.y=d"
    assert parse_field_selector("").empty
    assert parse_field_selector("=,!=").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_field_selector_messages(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_field_selector(text)
    assert str(caught.value) == message
