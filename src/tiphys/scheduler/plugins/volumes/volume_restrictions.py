"""VolumeRestrictions: a claim that one pod alone may use, and disks that two pods of a node cannot share.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiphys.api.object import Object
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, unresolvable, unschedulable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.volumes import not_found

if TYPE_CHECKING:
    import numpy as np

DISK = "node(s) had no available disk"
IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
_DISKS = ("awsElasticBlockStore", "gcePersistentDisk", "iscsi", "rbd")


@dataclass(slots=True)
class _Prepared:
    claims: frozenset[str]
    """Those that one pod alone may use."""
    conflicts: int
    """How many pods on nodes use them."""

    def clone(self) -> _Prepared:
        return _Prepared(self.claims, self.conflicts)

    def count(self, other: PodInfo, sign: int) -> None:
        self.conflicts += sign * sum(name in self.claims for name, ephemeral in other.claims if not ephemeral)


class VolumeRestrictions:
    name = "VolumeRestrictions"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        """Note the claims that one pod alone may use; SKIP if nothing restricts the pod."""
        disks = _has_disks(pod)
        if not pod.claims and not disks:
            return None, SKIP
        alone = set()
        for name, ephemeral in pod.claims:
            if ephemeral:
                continue
            claim = self._handle.store("persistentvolumeclaims").get(pod.namespace, name)
            if claim is None:
                return None, unresolvable(not_found("persistentvolumeclaim", name))
            if "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
                alone.add(name)
        conflicts = sum((pod.namespace, name) in self._handle.cache.claims for name in alone)
        if not disks and not conflicts:
            return None, SKIP
        state.data[self.name] = _Prepared(frozenset(alone), conflicts)
        return None, None

    def add_pod(self, state: CycleState, pod: PodInfo, added: PodInfo, node: NodeInfo) -> None:
        if pod.namespace == added.namespace:
            state.data[self.name].count(added, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, removed: PodInfo, node: NodeInfo) -> None:
        if pod.namespace == removed.namespace:
            state.data[self.name].count(removed, -1)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        if _has_disks(pod) and any(conflict(pod, other) for other in node.pods.values()):
            return unschedulable(DISK)
        return unschedulable(IN_USE) if state.data[self.name].conflicts > 0 else None

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        import numpy as np

        table = self._handle.cache.table
        if state.data[self.name].conflicts > 0:
            return np.zeros(len(table.rows), dtype=bool)
        if not _has_disks(pod):
            return None
        mask = np.ones(len(table.rows), dtype=bool)
        for node in table:
            if any(conflict(pod, other) for other in node.pods.values()):
                mask[node.row] = False
        return mask

    def events(self) -> Iterable[Registration]:
        def pod_gone(pod: PodInfo, old: PodInfo, new: None) -> bool:
            if old.namespace != pod.namespace:
                return False
            shared = {name for name, _ in pod.claims} & {name for name, _ in old.claims}
            return bool(shared) or conflict(pod, old)

        def claim_added(pod: PodInfo, old: None, new: Object) -> bool:
            meta = new["metadata"]
            return meta["namespace"] == pod.namespace and (meta["name"], False) in pod.claims

        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE), pod_gone)
        yield Registration(ClusterEvent(Resource.NODE, Action.ADD))
        yield Registration(ClusterEvent(Resource.PVC, Action.ADD), claim_added)


def _has_disks(pod: PodInfo) -> bool:
    return any(kind in volume for volume in pod.spec.get("volumes") or () for kind in _DISKS)


def conflict(pod: PodInfo, other: PodInfo) -> bool:
    """Whether two pods would write to one disk."""
    theirs = other.spec.get("volumes") or ()
    return any(_same_disk(one, two) for one in pod.spec.get("volumes") or () for two in theirs)


def _same_disk(one: Object, two: Object) -> bool:
    for kind in _DISKS:
        first, second = one.get(kind), two.get(kind)
        if first and second and _SAME[kind](first, second):
            return kind == "awsElasticBlockStore" or not (first.get("readOnly") and second.get("readOnly"))
    return False


_SAME: dict[str, Callable[[Object, Object], bool]] = {
    "awsElasticBlockStore": lambda one, two: one["volumeID"] == two["volumeID"],
    "gcePersistentDisk": lambda one, two: one["pdName"] == two["pdName"],
    "iscsi": lambda one, two: one["iqn"] == two["iqn"],
    "rbd": lambda one, two: (
        not set(one["monitors"]).isdisjoint(two["monitors"])
        and (one.get("pool") or "rbd", one["image"]) == (two.get("pool") or "rbd", two["image"])
    ),
}
