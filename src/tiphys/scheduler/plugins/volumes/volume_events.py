"""What may let a pod in that VolumeBinding has turned down. Source: KEP-4247."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.meta.objects import annotations_of
from tiphys.api.object import Object
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.storage_capacity import largest_volume

_MIGRATED = "storage.alpha.kubernetes.io/migrated-plugins"


def registrations() -> Iterable[Registration]:
    change = Action.ADD | Action.UPDATE
    yield Registration(ClusterEvent(Resource.STORAGE_CLASS, change), class_changed)
    yield Registration(ClusterEvent(Resource.PVC, change), claim_changed)
    yield Registration(ClusterEvent(Resource.PV, change))
    yield Registration(ClusterEvent(Resource.NODE, Action.ADD | Action.UPDATE_LABEL))
    yield Registration(ClusterEvent(Resource.CSI_NODE, change), csi_node_changed)
    yield Registration(ClusterEvent(Resource.CSI_DRIVER, Action.UPDATE), driver_changed)
    yield Registration(ClusterEvent(Resource.CSI_STORAGE_CAPACITY, change), capacity_changed)


def class_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
    return old is None or (old.get("allowedTopologies") or []) != (new.get("allowedTopologies") or [])


def claim_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
    meta = new["metadata"]
    return meta["namespace"] == pod.namespace and any(meta["name"] == name for name, _ in pod.claims)


def csi_node_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
    return old is None or annotations_of(old).get(_MIGRATED, "") != annotations_of(new).get(_MIGRATED, "")


def driver_changed(pod: PodInfo, old: Object, new: Object) -> bool:
    """A driver that no longer counts its capacity, and that the pod uses by itself."""
    stopped = bool(old["spec"].get("storageCapacity")) and not new["spec"].get("storageCapacity")
    names = {(volume.get("csi") or {}).get("driver") for volume in pod.spec.get("volumes") or ()}
    return stopped and new["metadata"]["name"] in names


def capacity_changed(pod: PodInfo, old: Object | None, new: Object) -> bool:
    if old is None:
        return True
    before, now = largest_volume(old), largest_volume(new)
    return now is not None and (before is None or now > before)
