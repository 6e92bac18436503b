"""JSON patch and merge patch by their RFCs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tiphys.api.meta import copy
from tiphys.api.patch import PatchError, json_patch, merge_patch, strategic_merge_patch
from tiphys.api.schema import schema_for
from tiphys.api.scheme import GroupVersionKind

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc~/"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc~/"), VALUES, max_size=4)


def difference(old: Any, new: Any) -> Any:
    """A merge patch that leads from one to the other."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch = {key: None for key in old if key not in new}
    return patch | {key: difference(old.get(key), value) for key, value in new.items() if old.get(key) != value}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS, OBJECTS)
def test_a_merge_patch_leads_where_it_says(old: dict[str, Any], new: dict[str, Any]) -> None:
    old, new = without_nulls(old), without_nulls(new)
    before = copy(old)
    assert merge_patch(old, difference(old, new)) == new
    assert old == before


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OBJECTS)
def test_json_patch_add_get_remove(obj: dict[str, Any]) -> None:
    before = copy(obj)
    for key in obj:
        path = "/" + key.replace("~", "~0").replace("/", "~1")
        assert json_patch(obj, [{"op": "test", "path": path, "value": obj[key]}]) == obj
        gone = json_patch(obj, [{"op": "remove", "path": path}])
        assert gone == {k: v for k, v in obj.items() if k != key}
        assert json_patch(gone, [{"op": "add", "path": path, "value": obj[key]}]) == obj
    assert obj == before


def test_copies_cannot_grow_without_end() -> None:
    operations = [{"op": "copy", "from": "", "path": "/a"}]
    doubling = [{"op": "copy", "from": "/a", "path": "/a/a"}, {"op": "copy", "from": "/a", "path": "/a/b"}] * 30
    with pytest.raises(PatchError):
        json_patch({"a": {"x": 1}}, operations + doubling)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/x"},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "replace", "path": "", "value": 3},
        {"op": "nope", "path": "/a"},
        {"path": "/a"},
        {"op": "test", "path": "/n", "value": 1.0},
        {"op": "test", "path": "/n", "value": True},
        None,
    ],
)
def test_refused_operations(operation: Any) -> None:
    with pytest.raises(PatchError):
        json_patch({"a": 1, "n": 1, "l": [1]}, [operation])


def test_strategic_merge_leaves_the_original() -> None:
    schema = schema_for(GroupVersionKind("", "v1", "Pod"))
    live = {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}}
    before = copy(live)
    patch = {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Y"}]}]}}
    found = strategic_merge_patch(live, patch, schema)
    assert found == {"spec": {"containers": [{"name": "a", "env": [{"name": "Y"}]}, {"name": "b"}]}}
    assert live == before
    assert patch["spec"]["containers"][0]["env"][0] == {"name": "X", "$patch": "delete"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from("abcd"), unique=True), st.lists(st.sampled_from("abcd"), unique=True))
def test_ordered_lists_follow_the_told_order(live: list[str], wanted: list[str]) -> None:
    # Of two empty lists the original cannot tell the type, and refuses.
    assume(live or wanted)
    schema = schema_for(GroupVersionKind("", "v1", "Pod"))
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": name} for name in wanted],
            "containers": [
                *({"name": name, "image": "new"} for name in wanted),
                *({"name": name, "$patch": "delete"} for name in live if name not in wanted),
            ],
        }
    }
    obj = {"spec": {"containers": [{"name": name, "image": "old"} for name in live]}}
    found = strategic_merge_patch(obj, patch, schema)["spec"]["containers"]
    assert found == [{"name": name, "image": "new"} for name in wanted]
