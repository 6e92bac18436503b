"""Stand-ins for modules that are imported when one of their functions or classes is first called. A leaf.

For registries whose rows are needed one by one: a server validates a few kinds at its start and most kinds never. The
registry imports the real modules under ``TYPE_CHECKING``, so that the type checker, editors and searches see them.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


class Function:
    """Stands for a function or class of a module; a call imports the module."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self._real: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self._real is None:
            self._real = getattr(import_module(self.module), self.name)
        return self._real(*arguments, **named)


class Module:
    """Stands for a module: each attribute is a ``Function`` of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Function:
        return Function(self._name, name)
