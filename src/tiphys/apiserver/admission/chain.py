"""The order in which plugins see a write: first all that may change it; then, on the final object, all that judge.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#admission-control-phases
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.apiserver.admission.attributes import Attributes
from tiphys.apiserver.admission.plugin import Plugin

Concern = tuple[str, str, str, str]


class AdmissionChain:
    """Which plugins a kind of request concerns is found out once."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._mutating: dict[Concern, tuple[Plugin, ...]] = {}
        self._validating: dict[Concern, tuple[Plugin, ...]] = {}

    async def mutate(self, attributes: Attributes) -> None:
        concern = _concern(attributes)
        plugins = self._mutating.get(concern)
        if plugins is None:
            plugins = self._mutating[concern] = tuple(p for p in self.plugins if p.mutates() and p.handles(*concern))
        for plugin in plugins:
            await plugin.admit(attributes)
        if attributes.wants_second_run:
            attributes.is_second_run = True
            for plugin in plugins:
                await plugin.admit(attributes)

    async def validate(self, attributes: Attributes) -> None:
        concern = _concern(attributes)
        plugins = self._validating.get(concern)
        if plugins is None:
            plugins = tuple(p for p in self.plugins if p.validates() and p.handles(*concern))
            self._validating[concern] = plugins
        for plugin in plugins:
            await plugin.validate(attributes)

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()


def _concern(attributes: Attributes) -> Concern:
    return attributes.operation, attributes.resource.group, attributes.resource.plural, attributes.subresource
