"""How we write, as far as it can be counted (docs/style.md): plain verbs, results with a name, docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tiphys"
PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("*.md")]

WORDS = {r"told|tells|anew": 5, r"the original": 1, r"there is none|there are none": 6}
"""Words that have plainer ones, and how many lines of the source and the pages may have them. Ceilings only go down."""
FOUND = 0
"""Variables, parameters and attributes called ``found`` instead of what they are."""
SHORT = 14
"""Lines that a public function may have without a docstring, its signature included."""
WITHOUT_DOCSTRING = 0


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def names_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module binds or reads by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods without a leading underscore; not those inside of functions."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from public_functions(node.body)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("words", WORDS)
def test_plain_words(words: str) -> None:
    pattern = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*sorted(SOURCE.rglob("*.py")), *PAGES]
        if path.name != "style.md"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert len(lines) <= WORDS[words], "\n".join(lines)


def test_a_result_is_named_for_what_it_is() -> None:
    places = [f"{path}:{line}" for path, tree in modules() for line, name in names_of(tree) if name == "found"]
    assert len(places) <= FOUND, places


def test_public_functions_say_what_they_return() -> None:
    silent = [
        f"{path}:{function.lineno} {function.name}"
        for path, tree in modules()
        for function in public_functions(tree.body)
        if (function.end_lineno or 0) - function.lineno >= SHORT and ast.get_docstring(function) is None
    ]
    assert len(silent) <= WITHOUT_DOCSTRING, silent


def test_every_module_has_a_docstring() -> None:
    silent = [path for path, tree in modules() if tree.body and ast.get_docstring(tree) is None]
    assert not silent
