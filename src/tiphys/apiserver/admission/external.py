"""Admission plugins written outside of Tiphys, in Python.

``--admission-plugin=module:Class`` loads a plugin and turns it on. A package may offer plugins as entry points of the
group ``tiphys.admission``; ``--enable-admission-plugins=NAME`` turns one on. Either is a subclass of
``tiphys.apiserver.admission.plugin.Plugin`` whose constructor takes one ``Context``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tiphys.apiserver.admission.plugin import Plugin
from tiphys.runtime import extensions

GROUP = "tiphys.admission"
Factory = Callable[[Any], Plugin]
"""Takes the ``Context`` of ``admission.plugins``."""


def load(references: Iterable[str], enabled: Iterable[str], built_in: Iterable[str]) -> dict[str, Factory]:
    """Plugins by name: those referred to, and the entry points that ``enabled`` names and that are not built in.

    Raises ``ExtensionError``, also if two plugins have one name.
    """
    known = set(built_in)
    plugins: dict[str, Factory] = {}
    for reference in references:
        plugin = _checked(reference, extensions.load(reference))
        name = plugin.name or plugin.__name__
        if name in known or name in plugins:
            raise extensions.ExtensionError(f"{reference}: an admission plugin {name} exists already; rename yours")
        plugins[name] = plugin
    for name in enabled:
        if name not in known and name not in plugins:
            offered = extensions.entry_point(GROUP, name)
            if offered is not None:
                plugins[name] = _checked(f"entry point {name}", offered)
    return plugins


def _checked(reference: str, plugin: Any) -> type[Plugin]:
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise extensions.ExtensionError(f"{reference} is not a subclass of tiphys.apiserver.admission.plugin.Plugin")
    return plugin
