"""JSONPath, as columns use it."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.custom.jsonpath import PathError, find, parse

OBJ: dict[str, Any] = {
    "spec": {"a.b": 1, "list": [10, 20, 30], "deep": {"er": [{"n": "x"}, {"n": "y"}]}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False", "n": 3}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.list", [[10, 20, 30]]),
        (".spec.list[0]", [10]),
        (".spec.list[-1]", [30]),
        (".spec.list[1:]", [20, 30]),
        (".spec.list[0:3:2]", [10, 30]),
        (".spec.list[*]", [10, 20, 30]),
        (".spec.list[0,2]", [10, 30]),
        (r".spec['a\.b']", [1]),
        (r".spec.a\.b", [1]),
        (".spec.deep.er[*].n", ["x", "y"]),
        ("..n", ["x", "y", 3]),
        (".nothing.there", []),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.n>2)].type", ["Old"]),
        (".status.conditions[?(@.n)].type", ["Old"]),
    ],
)
def test_what_a_path_finds(path: str, found: list[Any]) -> None:
    assert find(path, OBJ) == found


@pytest.mark.parametrize("path", [".spec.list[5]", ".spec.deep[0]", ".spec[?(@.a==1)]"])
def test_paths_that_do_not_fit_the_object(path: str) -> None:
    with pytest.raises(PathError):
        find(path, OBJ)


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(@.b", ".a[0:1:0]", "'a"])
def test_paths_that_make_no_sense(path: str) -> None:
    with pytest.raises(PathError):
        parse(path)


def test_descents_below_descents_end() -> None:
    """In 150 levels, five descents lead to 591,600,030 places."""
    nested: dict[str, Any] = {"a": 1}
    for _ in range(150):
        nested = {"a": nested}
    assert len(find(".spec..a", {"spec": nested})) == 151
    with pytest.raises(PathError, match="finds more than 10000 values"):
        find(".spec..a..a..a..a..a", {"spec": nested})
    with pytest.raises(PathError, match="finds more than 10000 values"):
        find(".spec..a[*][*]", {"spec": {"a": [[0] * 200 for _ in range(200)]}})
