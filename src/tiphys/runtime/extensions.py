"""Users' own plugins: found by reference (``module:attribute``) or as an entry point of an installed package.

Source: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import importlib
from typing import Any


class ExtensionError(ValueError):
    """A plugin that cannot be loaded; the message names it and the remedy."""


def load(reference: str) -> Any:
    """The object that ``module:attribute`` names. Raises ``ExtensionError``."""
    module, colon, attribute = reference.partition(":")
    if not (module and colon and attribute):
        raise ExtensionError(f"{reference!r} does not name a plugin; write module:Class")
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise ExtensionError(f"{reference}: {error}; install the module, or add its folder to PYTHONPATH") from error
    try:
        return getattr(loaded, attribute)
    except AttributeError as error:
        raise ExtensionError(f"{reference}: module {module} has no {attribute}") from error


def entry_point(group: str, name: str) -> Any | None:
    """What an installed package offers under ``name`` in ``group``, or None. Raises ``ExtensionError``."""
    from importlib.metadata import entry_points  # reads zip files and mail headers: not at every start

    for entry in entry_points(group=group, name=name):
        return load(entry.value)
    return None
