"""One name, one thing: what the source calls by one name is defined in one place."""

from __future__ import annotations

import ast

from tests.source.imports import trees


def test_an_api_object_has_one_name() -> None:
    """``from tiphys.api.object import Object``, with no alias of a module's own."""
    aliases = [
        module
        for module, tree in trees().items()
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(name, ast.Name) and name.id == "Object" for name in node.targets)
    ]
    assert aliases == ["tiphys.api.object"]
