"""No search through a list within a loop: it makes quadratic what looks linear, and no count of calls shows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "tiphys"
FOLDERS = ("api", "cel", "validation", "apiserver")
"""What works on objects that clients send."""
ALLOWED = frozenset[str]()
"""``file:function:name`` of lists that are short whatever is sent, each with its reason."""

_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def lists_of(function: ast.AST) -> set[str]:
    """The names that a function assigns lists to, as far as that can be seen."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if ast.unparse(node.annotation).startswith("list["):
                names.add(node.target.id)
        elif isinstance(node, ast.Assign) and _is_list(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _is_list(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return isinstance(called, ast.Name) and called.id in ("list", "sorted")
    return isinstance(value, ast.ListComp) or (isinstance(value, ast.List) and not value.elts)


def searches(function: ast.AST, names: set[str]) -> Iterator[str]:
    """The lists that are searched within a loop of the function."""
    for loop in ast.walk(function):
        if isinstance(loop, _LOOPS):
            for node in ast.walk(loop):
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
                    where = node.comparators[0]
                    if isinstance(where, ast.Name) and where.id in names:
                        yield where.id
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    of, method = node.func.value, node.func.attr
                    if isinstance(of, ast.Name) and of.id in names and method in ("index", "remove", "count"):
                        yield of.id


def test_no_list_is_searched_within_a_loop() -> None:
    seen = {
        f"{path.relative_to(ROOT)}:{function.name}:{name}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, _FUNCTIONS)
        for name in searches(function, lists_of(function))
    }
    assert sorted(seen - ALLOWED) == []
    assert sorted(ALLOWED - seen) == [], "these are gone"


def test_a_search_is_seen() -> None:
    text = "def f(xs):\n kept: list[int] = []\n for x in xs:\n  if x in kept: continue\n  kept.append(x)"
    function = ast.parse(text).body[0]
    assert list(searches(function, lists_of(function))) == ["kept"]
