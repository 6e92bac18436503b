"""A lifecycle is a table of states, not a cluster of booleans: a class has at most two that it sets itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.source.imports import trees

MOST = 2
ALLOWED = frozenset[str]()
"""Classes whose booleans are not states of one thing, each with its reason."""


def booleans(owner: ast.ClassDef) -> set[str]:
    """The attributes that begin as a boolean, and that a method other than the constructor sets."""
    first = {
        field.target.id
        for field in owner.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_bool(field)
    }
    later: set[str] = set()
    for function in owner.body:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names = first if function.name == "__init__" else later
            names |= {name for node in ast.walk(function) for name in _set_in(node)}
    return first & later


def _is_bool(field: ast.AnnAssign) -> bool:
    return ast.unparse(field.annotation) == "bool"


def _set_in(node: ast.AST) -> Iterator[str]:
    """The attributes of ``self`` that a statement sets to a boolean, as far as that can be seen."""
    match node:
        case ast.Assign(targets=targets, value=value):
            pass
        case ast.AnnAssign(target=target, value=ast.expr() as value):
            targets = [target]
        case _:
            return
    if not (isinstance(value, ast.Compare | ast.UnaryOp) or _is_constant(value)):
        return
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            match part:
                case ast.Attribute(value=ast.Name(id="self"), attr=name):
                    yield name


def _is_constant(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, bool)


def test_states_are_no_clusters_of_booleans() -> None:
    seen = {
        f"{module}.{owner.name}": sorted(booleans(owner))
        for module, tree in trees().items()
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef) and len(booleans(owner)) > MOST
    }
    assert {name: names for name, names in seen.items() if name not in ALLOWED} == {}
    assert ALLOWED - seen.keys() == set(), "these need no exception"


def test_how_booleans_are_counted() -> None:
    text = """
class A:
    plain: bool = False
    def __init__(self):
        self.a = self.b = False
        self.c = True
        self.text = ""
    def f(self):
        self.a, self.text = True, "x"
        self.b = not self.c
        self.plain = True
"""
    owner = ast.parse(text).body[0]
    assert isinstance(owner, ast.ClassDef)
    assert booleans(owner) == {"b", "plain"}
