"""PodTolerationRestriction: tolerations that every pod of a namespace gets, and those that its pods may have.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podtolerationrestriction
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.api.pods.qos import BEST_EFFORT, qos_of
from tiphys.api.scheduling.taints import MEMORY_PRESSURE, toleration
from tiphys.api.scheduling.tolerationsets import TolerationSet, merged
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.optional.annotated import annotation
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.registry.registries import Registries

_DEFAULT = "scheduler.alpha.kubernetes.io/defaultTolerations"
_ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
_PRESSURE = {"key": MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule"}


@dataclass(frozen=True, slots=True)
class TolerationRules:
    """For namespaces that say nothing."""

    default: Sequence[Object] = ()
    allowed: Sequence[Object] = ()
    """None: all."""


class PodTolerationRestriction(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, registries: Registries, rules: TolerationRules) -> None:
        self._namespaces = registries.get("", "namespaces")
        self._rules = rules

    async def admit(self, attributes: Attributes) -> None:
        pod, extra = attributes.new(), list[Object]()
        if attributes.operation == CREATE:
            own = await self._annotated(attributes.namespace, _DEFAULT)
            extra += self._rules.default if own is None else own
        if qos_of(pod) != BEST_EFFORT:
            extra.append(_PRESSURE)
        if extra:
            pod["spec"]["tolerations"] = [dict(one) for one in merged(pod["spec"].get("tolerations") or (), extra)]
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        tolerations = attributes.new()["spec"].get("tolerations")
        if not tolerations:
            return
        own = await self._annotated(attributes.namespace, _ALLOWED)
        allowed, scope = (self._rules.allowed, "cluster") if own is None else (own, "namespace")
        if not allowed:
            return
        known = TolerationSet(map(toleration, allowed))
        if not all(known.covers(toleration(one)) for one in tolerations):
            text = f"conflict with its {scope} whitelist"
            raise errors.from_code(500, f"pod tolerations (possibly merged with namespace default tolerations) {text}")

    async def _annotated(self, namespace: str, name: str) -> list[Object] | None:
        """The tolerations in an annotation of the namespace; None if it has none of that name."""
        text = await annotation(self._namespaces, namespace, name)
        if not text:
            return None if text is None else []
        try:
            tolerations = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise errors.from_code(500, f"{name} of namespace {namespace} is not JSON: {error}") from None
        if tolerations is None:
            return []
        if not isinstance(tolerations, list) or not all(isinstance(one, dict) for one in tolerations):
            raise errors.from_code(500, f"{name} of namespace {namespace} is not a list of tolerations")
        return tolerations
