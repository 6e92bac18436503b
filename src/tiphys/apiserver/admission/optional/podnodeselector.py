"""PodNodeSelector: the nodes that the pods of a namespace run on, by its annotation or by the server's configuration.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#podnodeselector
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api import errors
from tiphys.api.meta.names import label_value, qualified_name
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.optional.annotated import annotation
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.registry.registries import Registries

Labels = dict[str, str]

_ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
_CLUSTER = "clusterDefaultNodeSelector"


class PodNodeSelector(Plugin):
    """``selectors`` holds the labels that pods may select by namespace, and under ``clusterDefaultNodeSelector`` those
    that pods of namespaces without an annotation get; each as ``a=b,c=d``."""

    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE,))

    def __init__(self, registries: Registries, selectors: Mapping[str, str]) -> None:
        self._namespaces = registries.get("", "namespaces")
        self._selectors = selectors

    async def admit(self, attributes: Attributes) -> None:
        wanted = await self._of_namespace(attributes.namespace)
        spec = attributes.new()["spec"]
        own = spec.get("nodeSelector") or {}
        _check_agreement(attributes, wanted, own)
        if wanted:
            spec["nodeSelector"] = {**wanted, **own}
        await self.validate(attributes)

    async def validate(self, attributes: Attributes) -> None:
        own = attributes.new()["spec"].get("nodeSelector") or {}
        _check_agreement(attributes, await self._of_namespace(attributes.namespace), own)
        allowed = _labels(self._selectors.get(attributes.namespace, ""))
        if allowed and not own.items() <= allowed.items():
            raise _conflict(attributes, "pod node label selector labels conflict with its namespace whitelist")

    async def _of_namespace(self, namespace: str) -> Labels:
        text = await annotation(self._namespaces, namespace, _ANNOTATION)
        return _labels(self._selectors.get(_CLUSTER, "") if text is None else text)


def _check_agreement(attributes: Attributes, wanted: Labels, own: Labels) -> None:
    if any(own.get(name, value) != value for name, value in wanted.items()):
        raise _conflict(attributes, "pod node label selector conflicts with its namespace node label selector")


def _conflict(attributes: Attributes, reason: str) -> errors.StatusError:
    return errors.forbidden("", "pods", attributes.new()["metadata"].get("name", ""), reason)


def _labels(text: str) -> Labels:
    """``a=b, c=d`` as labels. Raises a failure for other texts."""
    labels: Labels = {}
    for part in text.split(",") if text else ():
        words = part.split("=")
        if len(words) != 2:
            raise errors.from_code(500, f"invalid selector: [{' '.join(words)}]")
        key, value = (word.strip() for word in words)
        if problems := [*qualified_name(key), *label_value(value)]:
            raise errors.from_code(500, f"invalid selector {part.strip()}: {'; '.join(problems)}")
        labels[key] = value
    return labels
