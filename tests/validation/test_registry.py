"""The table of kinds names functions; every name must be one."""

from __future__ import annotations

from importlib import import_module

import pytest

from tiphys.runtime.lazily import Function
from tiphys.validation import subresources
from tiphys.validation.registry import RULES, RULES_OF_VERSION

NAMED = sorted(
    {
        (function.module, function.name)
        for rules in (*RULES.values(), *RULES_OF_VERSION.values())
        for function in (rules.create, rules.update, rules.status, *vars(subresources).values())
        if isinstance(function, Function)
    }
)


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_every_rule_is_there(module: str, name: str) -> None:
    assert callable(getattr(import_module(module), name))
