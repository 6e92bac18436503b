"""DefaultTolerationSeconds: pods stay on a node that is not ready or unreachable for five minutes, unless they say.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#defaulttolerationseconds
"""

from __future__ import annotations

from tiphys.api.scheduling.taints import NOT_READY, UNREACHABLE
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin


class DefaultTolerationSeconds(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))

    def __init__(self, not_ready: int = 300, unreachable: int = 300) -> None:
        self._seconds = {NOT_READY: not_ready, UNREACHABLE: unreachable}

    async def admit(self, attributes: Attributes) -> None:
        spec = attributes.new()["spec"]
        tolerations = spec.get("tolerations") or []
        added = [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            for key, seconds in self._seconds.items()
            if not any(_covers(toleration, key) for toleration in tolerations)
        ]
        if added:
            spec["tolerations"] = [*tolerations, *added]


def _covers(toleration: dict[str, object], key: str) -> bool:
    return toleration.get("key", "") in ("", key) and toleration.get("effect", "") in ("", "NoExecute")
