"""No module imports itself by way of others: not at the top, not in functions, and not for types alone."""

from __future__ import annotations

import ast

import pytest

from tests.source.imports import cycles, import_graph, trees


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert cycles(import_graph(trees())) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"p.a": "import p.b", "p.b": "import os"}, []),
        ({"p.a": "import p.b", "p.b": "from p import a"}, [["p.a", "p.b"]]),
        (
            {"p.a": "from p.b import x", "p.b": "def f():\n    from p.c import y", "p.c": "import p.a"},
            [["p.a", "p.b", "p.c"]],
        ),
        ({"p.a": "if TYPE_CHECKING:\n    from p.b import X", "p.b": "from p.a import Y"}, [["p.a", "p.b"]]),
        ({"p": "from p.a import x", "p.a": "from p import y"}, [["p", "p.a"]]),
        ({"p.a": "import p.a"}, []),
    ],
)
def test_how_cycles_are_found(sources: dict[str, str], expected: list[list[str]]) -> None:
    assert cycles(import_graph({name: ast.parse(text) for name, text in sources.items()})) == expected
