"""Nothing dead: a function, class or constant of a module is used, by the module itself or by one that imports it.

vulture, which `./tiphys check` runs, compares bare names: a name that is in use anywhere keeps its namesakes alive, and
it takes every constant for one that others read. Here a use must lead to the definition.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.source.imports import trees

ROOT = Path(__file__).parents[2]
TABLES = ("tiphys.client.resources",)
"""Whose rows are for users' programs."""
FOR_OTHERS = ("tiphys.testing", "tiphys.controlkit", "tiphys.client", "tiphys.api.resources")
"""What users' own controllers and tests are written with: there, what our tests use is used."""
BY_NAME = {"main": "tiphys.cli.main", "COMMANDS": "tiphys.store.etcdctl"}
"""What is looked up in modules that are imported by a table of their names, and where that is done."""
ALLOWED = frozenset(
    {
        "tiphys.cli.main.script",  # which pyproject.toml names
        "tiphys.wire.websocket.V4",
        # The client's half of the protocol, with which tests ask the server's.
        "tiphys.wire.websocket.check_answer",
        "tiphys.wire.websocket.request_headers",
    }
)

Names = dict[str, set[str]]
"""By module, names at its top."""


def defined(tree: ast.Module) -> set[str]:
    """The functions, classes and constants at the top of a module, but for those that a decorator registers."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if not _registers(node):
                    names.add(node.name)
            case ast.Assign(targets=targets):  # several at once are a table, which may be whole
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return {name for name in names if not name.startswith("__")}


def _registers(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether a decorator may keep what it decorates: one that is called with something, and is not a known one."""
    known = ("dataclass", "lru_cache", "contextmanager", "asynccontextmanager", "cache", "unique", "final")
    called = (each.func if isinstance(each, ast.Call) else each for each in node.decorator_list)
    return any(ast.unparse(each).rpartition(".")[2] not in known for each in called)


def uses(module: str, tree: ast.Module, defined_in: Names) -> Iterator[tuple[str, str]]:
    """The definitions that a module uses, as module and name."""
    bound: dict[str, str] = {}
    """What stands for a module here: names, and the module that each is."""
    attributes: list[ast.Attribute] = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                yield module, name
            case ast.Attribute():
                attributes.append(node)
            case ast.Constant(value=str(text)):
                yield from _named(module, text, defined_in)
            case ast.Import(names=aliases):
                bound |= {alias.asname or alias.name: alias.name for alias in aliases if alias.name in defined_in}
            case ast.ImportFrom(module=str(source), names=aliases):
                for alias in aliases:
                    if (inner := f"{source}.{alias.name}") in defined_in:
                        bound[alias.asname or alias.name] = inner
                    yield source, alias.name
    for node in attributes:
        if (path := _path(node.value)) in bound:
            yield bound[path], node.attr


def _path(node: ast.expr) -> str:
    """Names with dots between; empty for what is more than that."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _path(node.value)):
        return f"{owner}.{node.attr}"
    return ""


def _named(module: str, text: str, defined_in: Names) -> Iterator[tuple[str, str]]:
    """The definitions that a text names: an annotation, ``module:name`` of a lazy table, a name in ``__all__``."""
    if len(text) < 120 and text.replace(".", "").replace(":", "").replace("_", "").isalnum():
        yield module, text
        owner, _, name = text.replace(":", ".").rpartition(".")
        if owner in defined_in:
            yield owner, name
    elif len(text) < 300:
        yield from ((module, word.strip()) for word in text.replace("[", ",").replace("]", ",").split(","))


def dead(sources: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """What is defined in ``sources`` and not used there, as module and name."""
    defined_in = {module: defined(tree) for module, tree in sources.items()}
    used = {use for module, tree in sources.items() for use in uses(module, tree, defined_in)}
    return {(module, name) for module, names in defined_in.items() for name in names if (module, name) not in used}


def words_of_tests() -> set[str]:
    paths = (path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py"))
    return {word for path in paths for word in re.findall(r"\w+", path.read_text())}


def test_nothing_at_the_top_of_a_module_is_dead() -> None:
    words = words_of_tests()
    unused = {
        f"{module}.{name}"
        for module, name in dead(trees())
        if name not in BY_NAME and module not in TABLES and not (module.startswith(FOR_OTHERS) and name in words)
    }
    assert sorted(unused - ALLOWED) == []
    assert sorted(ALLOWED - unused) == [], "these are used, or gone"


def test_what_is_looked_up_by_name_is_looked_up() -> None:
    for name, module in BY_NAME.items():
        texts = [ast.unparse(tree) for at, tree in trees().items() if at == module or at.startswith(f"{module}.")]
        assert any(f".{name}" in text for text in texts), name


def test_how_uses_are_found() -> None:
    texts = {
        "p.a": "X = 1\nY = 2\nclass C: ...\ndef f(): return X\n@register('f')\ndef g(): ...\ndef h(): ...",
        "p.b": "from p import a\nfrom p.a import f\nfrom p.b import Z\nprint(a.C, f)",
    }
    assert dead({name: ast.parse(text) for name, text in texts.items()}) == {("p.a", "Y"), ("p.a", "h")}
