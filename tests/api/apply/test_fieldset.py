"""The algebra of field sets, against sets of paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.apply.fieldset import (
    SELF,
    FieldSet,
    FieldSetError,
    canonical,
    difference,
    excluding,
    has,
    including,
    intersection,
    of_paths,
    ordered,
    path_text,
    paths,
    recursive_difference,
    union,
)

ELEMENTS = st.sampled_from(["f:a", "f:b", 'k:{"n":1}', 'v:"x"', "i:0"])
PATHS = st.sets(st.lists(ELEMENTS, min_size=1, max_size=3).map(tuple), max_size=6)


def build(found: set[tuple[str, ...]]) -> FieldSet:
    root: FieldSet = {}
    for path in sorted(found):
        node = root
        for element in path[:-1]:
            if element in node and node[element] == {}:
                node[element] = {SELF: {}}
            node = node.setdefault(element, {})
        last = node.get(path[-1])
        node[path[-1]] = {} if last is None else {SELF: {}, **last}
    return root


def members(fields: FieldSet) -> set[tuple[str, ...]]:
    return set(paths(fields))


@settings(max_examples=300)
@given(PATHS, PATHS)
def test_set_algebra(left: set[Any], right: set[Any]) -> None:
    a, b = build(left), build(right)
    assert members(a) == left
    assert members(union(a, b)) == left | right
    assert members(difference(a, b)) == left - right
    assert members(intersection(a, b)) == left & right
    below = {p for p in left if any(p[: len(q)] == q for q in right)}
    assert members(recursive_difference(a, b)) == left - below
    assert members(excluding(b)(a)) == left - below
    for path in left:
        assert has(a, path) == (path in left)
        assert has(b, path) == (path in right)
    assert canonical(a) == a


def test_the_written_form() -> None:
    assert of_paths("spec", "metadata.labels") == {"f:spec": {}, "f:metadata": {"f:labels": {}}}
    assert union(of_paths("a.b"), of_paths("a")) == {"f:a": {".": {}, "f:b": {}}}
    assert difference(union(of_paths("a.b"), of_paths("a")), of_paths("a.b")) == {"f:a": {}}
    assert list(ordered({"v:2": {}, 'k:{"p":80}': {}, 'k:{"p":443}': {}, "f:b": {}, "f:a": {}, "v:10": {}})) == [
        "f:a",
        "f:b",
        'k:{"p":80}',
        'k:{"p":443}',
        "v:2",
        "v:10",
    ]


def test_paths_as_messages_show_them() -> None:
    path = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}', "f:name")
    assert path_text(path) == '.spec.ports[port=80,protocol="TCP"].name'
    assert path_text(("f:metadata", "f:finalizers", 'v:"a"')) == '.metadata.finalizers[="a"]'


def test_sets_from_outside_are_checked() -> None:
    assert canonical({'k:{"b":1, "a":2}': {}, "x:1": {}}) == {'k:{"a":2,"b":1}': {}}
    assert canonical({"f:a": {".": {}}}) == {"f:a": {}}
    for bad in ({"a": {}}, {"fa": {}}, {"v:{": {}}, {"k:[]": {}}, {"i:x": {}}, []):
        with pytest.raises(FieldSetError):
            canonical(bad)


def test_including() -> None:
    keep = including("spec.containers.*.resources")
    fields = {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:resources": {"f:limits": {}}}}}}
    kept = keep(fields)
    assert ("f:spec", "f:containers", 'k:{"name":"c"}', "f:resources", "f:limits") in members(kept)
    assert ("f:spec", "f:containers", 'k:{"name":"c"}', "f:image") not in members(kept)
