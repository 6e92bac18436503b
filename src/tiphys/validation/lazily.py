"""Rules of kinds that are imported when the first object of the kind is validated.

A server validates a few kinds at its start and most kinds never; their rules are a tenth of what it would import.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tiphys.api.fielderrors import FieldError


class Function:
    """Stands for a validating function of a module; a call imports the module."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __call__(self, *arguments: Any) -> list[FieldError]:
        errors: list[FieldError] = getattr(import_module(self.module), self.name)(*arguments)
        return errors


class Module:
    """Stands for a module: each attribute is a ``Function`` of it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Function:
        return Function(self._name, name)
