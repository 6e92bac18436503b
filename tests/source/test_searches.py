"""No search through a list within a loop: it makes quadratic what looks linear, and no count of calls shows it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2] / "src" / "tiphys"
FOLDERS = ("api", "cel", "validation", "apiserver")
"""What works on objects that clients send."""
ALLOWED = frozenset(
    (
        "api/openapi/documents.py:_operation_v2:common",  # parameters of our own paths
        "api/openapi/documents.py:_operation_v3:common",
        "api/tables/storage.py:_access_modes:modes",  # four short names, each looked for once
        "apiserver/audit/policy.py:_path_errors:url",  # a text, of a file
    )
)
"""``file:function:name`` of lists that are short whatever is sent, each with its reason."""

_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def lists_of(function: ast.AST) -> set[str]:
    """The names of a function that are lists, as far as that can be seen."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if ast.unparse(node.annotation).startswith("list["):
                names.add(node.target.id)
        elif isinstance(node, ast.arg) and node.annotation is not None:
            if ast.unparse(node.annotation).startswith(("list[", "Sequence[")):
                names.add(node.arg)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names |= {name.id for name, value in _pairs(target, node.value) if _is_list(value)}
    return names


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.Name, ast.expr]]:
    """What is assigned to which name."""
    if isinstance(target, ast.Name):
        yield target, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for inner, part in zip(target.elts, value.elts, strict=False):
            yield from _pairs(inner, part)


def _is_list(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        called = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        return isinstance(called, ast.Name) and called.id in ("list", "sorted")
    if isinstance(value, ast.BoolOp):
        return isinstance(value.op, ast.Or) and _is_list(value.values[-1])
    return isinstance(value, ast.ListComp) or (isinstance(value, ast.List) and not value.elts)


def searches(function: ast.AST, names: set[str]) -> Iterator[str]:
    """The lists that are searched within a loop of the function, whole or a slice of them."""
    for loop in ast.walk(function):
        if isinstance(loop, _LOOPS):
            for node in repeated(loop):
                where: ast.expr | None = None
                if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
                    where = node.comparators[0]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    where = node.func.value if node.func.attr in ("index", "remove", "count") else None
                sliced = isinstance(where, ast.Subscript) and isinstance(where.slice, ast.Slice)
                if isinstance(where, ast.Subscript) and sliced:
                    where = where.value
                if isinstance(where, ast.Name) and (where.id in names or sliced):
                    yield where.id


def repeated(loop: ast.AST) -> Iterator[ast.AST]:
    """The nodes that a loop comes to more than once: not what it goes through."""
    for name, field in ast.iter_fields(loop):
        if isinstance(loop, ast.For) and name in ("iter", "orelse"):
            continue
        for node in field if isinstance(field, list) else [field]:
            if isinstance(node, ast.comprehension):
                parts: list[ast.AST] = [*node.ifs]
                if node is not loop.generators[0]:  # type: ignore[attr-defined]
                    parts.append(node.iter)
                for part in parts:
                    yield from ast.walk(part)
            elif isinstance(node, ast.AST):
                yield from ast.walk(node)


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


def test_a_search_through_what_came_before_is_seen() -> None:
    text = "def f(o):\n xs, ys = o.get('a') or [], []\n for i, x in enumerate(xs):\n  if x in xs[:i]: continue"
    function = ast.parse(text).body[0]
    assert lists_of(function) == {"xs", "ys"}
    assert list(searches(function, set())) == ["xs"]
