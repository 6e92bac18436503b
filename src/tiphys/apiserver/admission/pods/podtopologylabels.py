"""PodTopologyLabels: a pod has the zone and the region of its node as labels, from when it is bound.

The labels of a binding become those of the pod. Source: KEP-4742 (topology labels by the downward API).
"""

from __future__ import annotations

from tiphys.apiserver.admission.attributes import CREATE, Attributes
from tiphys.apiserver.admission.plugin import Plugin
from tiphys.apiserver.registry.registries import Registries

_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Plugin):
    resources = frozenset((("", "pods"),))
    operations = frozenset((CREATE,))
    subresources = frozenset(("", "binding"))

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def admit(self, attributes: Attributes) -> None:
        obj = attributes.new()
        if attributes.subresource == "binding":
            target = obj.get("target") or {}
            node = target.get("name") if target.get("kind") == "Node" else None
        else:
            node = obj["spec"].get("nodeName")
        if node and (labels := await self._labels_of(node)):
            meta = obj["metadata"]
            meta["labels"] = {**(meta.get("labels") or {}), **labels}

    async def _labels_of(self, name: str) -> dict[str, str]:
        """The topology labels of a node; none of one that does not exist."""
        nodes = self._registries.get("", "nodes")
        entry = await nodes.store.cached("", name)
        labels = {} if entry is None else nodes.object(entry)["metadata"].get("labels") or {}
        return {key: labels[key] for key in _LABELS if key in labels}
