"""The plugins of a server, in upstream's order, and which of them are on.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#which-plugins-are-enabled-by-default
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.config import Config
from tiphys.apiserver.registry.registries import Registries


@dataclass(frozen=True, slots=True)
class Context:
    """What plugins work with."""

    config: Config
    registries: Registries
    authorizer: Authorizer


Make = Callable[[Context], Plugin]

_DEFAULT_OFF = frozenset(())
PLUGINS: tuple[tuple[str, Make], ...] = ()


def make_plugins(config: Config, registries: Registries, authorizer: Authorizer) -> list[Plugin]:
    """Raises ``ValueError`` for the name of a plugin that is not supported."""
    context = Context(config, registries, authorizer)
    known = {name for name, _ in PLUGINS}
    for name in (*config.enable_admission_plugins, *config.disable_admission_plugins):
        if name not in known:
            raise ValueError(f"admission plugin {name!r} is not supported; choose from {', '.join(sorted(known))}")
    wanted = (known - _DEFAULT_OFF - set(config.disable_admission_plugins)) | set(config.enable_admission_plugins)
    return [make(context) for name, make in PLUGINS if name in wanted]
