"""LimitPodHardAntiAffinityTopology: required anti-affinity is between nodes only, so that no pod keeps others out of a
whole zone.

Source: https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#limitpodhardantiaffinitytopology
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin

_HOSTNAME = "kubernetes.io/hostname"


class LimitPodHardAntiAffinityTopology(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE, UPDATE))

    async def validate(self, attributes: Attributes) -> None:
        pod = attributes.new()
        rules = (pod["spec"].get("affinity") or {}).get("podAntiAffinity") or {}
        for term in rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            if term.get("topologyKey") != _HOSTNAME:
                reason = (
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey"
                    f" {term.get('topologyKey', '')} but only key {_HOSTNAME} is allowed"
                )
                raise errors.forbidden("", "pods", pod["metadata"].get("name", ""), reason)
