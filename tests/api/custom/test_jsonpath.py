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
