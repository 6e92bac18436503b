"""DefaultIngressClass: an ingress that names no class gets the one that is marked as default.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#defaultingressclass
"""

from __future__ import annotations

from tiphys.api.meta.timestamps import parse_seconds
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.registry.registries import Registries

_GROUP = "networking.k8s.io"
_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_OLD_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    resources = frozenset(((_GROUP, "ingresses"),))
    operations = frozenset((CREATE,))

    def __init__(self, registries: Registries) -> None:
        self._classes = registries.get(_GROUP, "ingressclasses")

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.new()
        spec = ingress.setdefault("spec", {})
        if spec.get("ingressClassName") is not None or _OLD_CLASS in (ingress["metadata"].get("annotations") or {}):
            return
        classes = [self._classes.shared_object(entry) for entry in await self._classes.all()]
        marked = [c for c in classes if (c["metadata"].get("annotations") or {}).get(_DEFAULT) == "true"]
        if marked:
            chosen = min(
                marked, key=lambda c: (-parse_seconds(c["metadata"]["creationTimestamp"]), c["metadata"]["name"])
            )
            spec["ingressClassName"] = chosen["metadata"]["name"]
