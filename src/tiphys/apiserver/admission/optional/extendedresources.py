"""ExtendedResourceToleration: a pod that asks for a device tolerates the taint that keeps others off its nodes.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#extendedresourcetoleration
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.api.pods.resources import is_extended
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin


class ExtendedResourceToleration(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))

    async def admit(self, attributes: Attributes) -> None:
        spec = attributes.new()["spec"]
        names = _extended(spec)
        if not names:
            return
        wanted = {name: {"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in sorted(names)}
        tolerations, missing = [], dict(wanted)
        for toleration in spec.get("tolerations") or ():
            own = wanted.get(toleration.get("key", ""))
            if own is not None and _is_same(own, toleration):
                missing.pop(own["key"], None)
                toleration = dict(own)
            tolerations.append(toleration)
        spec["tolerations"] = [*tolerations, *missing.values()]


def _extended(spec: Object) -> set[str]:
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    requests = [(container.get("resources") or {}).get("requests") or {} for container in containers]
    return {name for names in requests for name in names if is_extended(name)}


def _is_same(own: Object, toleration: Object) -> bool:
    """Whether they differ in nothing but how long the taint is tolerated."""
    return not toleration.get("value") and all(toleration.get(name, "") == own[name] for name in own)
