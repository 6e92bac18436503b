"""Constructors with more than four collaborators take them by keyword, so that a call says which is which."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.source.imports import trees

MOST = 4
ALLOWED = frozenset({"tiphys.apiserver.storage.entry.Entry", "tiphys.cel.syntax.Comprehension"})
"""Entry: made for every object that is stored, where keywords would cost time. Comprehension: a node of the CEL
specification's syntax, whose fields have the order of the specification."""


def crowded(module: str, tree: ast.Module) -> Iterator[str]:
    """The classes of a module whose constructors take more than ``MOST`` arguments by position."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            for function in owner.body:
                is_constructor = isinstance(function, ast.FunctionDef) and function.name == "__init__"
                if is_constructor and len(function.args.posonlyargs + function.args.args) - 1 > MOST:
                    yield f"{module}.{owner.name}"


def test_constructors_take_many_collaborators_by_keyword() -> None:
    seen = {name for module, tree in trees().items() for name in crowded(module, tree)}
    assert sorted(seen - ALLOWED) == []
    assert sorted(ALLOWED - seen) == [], "these need no exception"


def test_how_constructors_are_judged() -> None:
    text = "class A:\n def __init__(self, a, b, c, d): ...\nclass B:\n def __init__(self, a, b, c, d, e): ..."
    assert list(crowded("p", ast.parse(text))) == ["p.B"]
    assert list(crowded("p", ast.parse("class C:\n def __init__(self, *, a, b, c, d, e): ..."))) == []
