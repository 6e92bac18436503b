"""TaintNodesByCondition: a new node is tainted as not ready, until the node controller sees that it is.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#taintnodesbycondition
"""

from __future__ import annotations

from tiphys.api.scheduling.taints import NOT_READY
from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin

_TAINT = {"key": NOT_READY, "effect": "NoSchedule"}


class TaintNodesByCondition(Plugin):
    resources = frozenset((("", "nodes"),))
    operations = frozenset((CREATE,))

    async def admit(self, attributes: Attributes) -> None:
        spec = attributes.new().setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(t.get("key") == _TAINT["key"] and t.get("effect") == _TAINT["effect"] for t in taints):
            spec["taints"] = [*taints, dict(_TAINT)]
