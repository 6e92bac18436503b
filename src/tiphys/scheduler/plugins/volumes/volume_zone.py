"""VolumeZone: a volume with a label of a zone or region is reached from nodes of that zone or region only.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.api.meta.objects import labels_of
from tiphys.api.object import Object
from tiphys.api.volumes.matching import class_of
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unresolvable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.volumes import not_found

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) had no available volume zone"

_NEW = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
LABELS = (*_NEW, *_NEW.values())
_SEPARATOR = "__"

Topology = tuple[str, frozenset[str]]
"""A label and the values that will do."""


class VolumeZone:
    name = "VolumeZone"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        topologies: list[Topology] = []
        for name, ephemeral in pod.claims:
            if not ephemeral:
                volume = self._volume(pod, name)
                if isinstance(volume, Status):
                    return None, volume
                topologies += topologies_of(volume)
        if not topologies:
            return None, SKIP
        state.data[self.name] = topologies
        return None, None

    def _volume(self, pod: PodInfo, name: str) -> Object | Status | None:
        """The volume of a claim; None if there is none yet, and the scheduler chooses it."""
        claim = self._handle.store("persistentvolumeclaims").get(pod.namespace, name)
        if claim is None:
            return unresolvable(not_found("persistentvolumeclaim", name))
        if volume_name := claim["spec"].get("volumeName"):
            volume = self._handle.store("persistentvolumes").get("", volume_name)
            return unresolvable(not_found("persistentvolume", volume_name)) if volume is None else volume
        class_name = class_of(claim)
        if not class_name:
            return unresolvable("PersistentVolumeClaim had no pv name and storageClass name")
        storage_class = self._handle.store("storageclasses").get("", class_name)
        if storage_class is None:
            return unresolvable(not_found("storageclass.storage.k8s.io", class_name))
        if storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
            return None
        return unresolvable("PersistentVolume had no name")

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if not any(label in node.labels for label in LABELS):
            return None
        for label, values in state.data[self.name]:
            value = node.labels.get(label) or node.labels.get(_NEW.get(label, label))
            if value not in values:
                return unresolvable(REASON)
        return None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        import numpy as np

        table = self._handle.cache.table
        mask = np.ones(len(table.rows), dtype=bool)
        for node in table:
            if self.filter(state, pod, node) is not None:
                mask[node.row] = False
        return mask

    def events(self) -> Iterable[Registration]:
        """The events after which a pod that this plugin refused may fit."""

        def waits_for_consumer(pod: PodInfo, old: None, new: Object) -> bool:
            return new.get("volumeBindingMode") == "WaitForFirstConsumer"

        def mounts(pod: PodInfo, old: Object | None, new: Object) -> bool:
            meta = new["metadata"]
            return meta["namespace"] == pod.namespace and (meta["name"], False) in pod.claims

        def volume_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
            return old is None or topologies_of(old) != topologies_of(new)

        change = Action.ADD | Action.UPDATE
        yield Registration(ClusterEvent(Resource.STORAGE_CLASS, Action.ADD), waits_for_consumer)
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_LABEL))
        yield Registration(ClusterEvent(Resource.PVC, change), mounts)
        yield Registration(ClusterEvent(Resource.PV, change), volume_changed)


def topologies_of(volume: Object | None) -> list[Topology]:
    """What a volume's labels ask of a node's; one label may name several values: ``a__b``."""
    labels = labels_of(volume) if volume is not None else {}
    return [
        (label, frozenset(labels[label].split(_SEPARATOR)))
        for label in LABELS
        if label in labels and all(labels[label].split(_SEPARATOR))
    ]
