"""NodeVolumeLimits: a node takes as many volumes of a CSI driver as the driver says in the node's CSINode.

Source: https://kubernetes.io/docs/concepts/storage/storage-limits/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tiphys.api.object import Object
from tiphys.api.volumes.claims import is_of
from tiphys.api.volumes.matching import class_of
from tiphys.scheduler.framework.cyclestate import CycleState
from tiphys.scheduler.framework.events import Action, ClusterEvent, Registration, Resource
from tiphys.scheduler.framework.interface import PreFilterResult
from tiphys.scheduler.framework.nodeinfo import NodeInfo
from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import SKIP, Status, error, unresolvable, unschedulable
from tiphys.scheduler.handle import Handle
from tiphys.scheduler.volumes import not_found

if TYPE_CHECKING:
    import numpy as np

REASON = "node(s) exceed max volume count"
_NODE = "node"

Volume = tuple[str, str]
"""Driver and handle; of a volume that is to be provisioned, the claim stands for the handle."""


class NodeVolumeLimits:
    name = "NodeVolumeLimits"

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def pre_filter(self, state: CycleState, pod: PodInfo) -> tuple[PreFilterResult | None, Status | None]:
        return None, None if pod.claims else SKIP

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        new = self._new_volumes(pod)
        return new if isinstance(new, Status) else self._judge(new, node)

    def filter_all(self, state: CycleState, pod: PodInfo) -> np.ndarray[Any, Any] | None:
        import numpy as np

        table, new = self._handle.cache.table, self._new_volumes(pod)
        if isinstance(new, Status):
            return np.zeros(len(table.rows), dtype=bool)
        mask = np.ones(len(table.rows), dtype=bool)
        for csi_node in self._handle.store("csinodes").list() if new else ():
            node = table.get(csi_node["metadata"]["name"])
            if node is not None and self._judge(new, node) is not None:
                mask[node.row] = False
        return mask

    def _new_volumes(self, pod: PodInfo) -> set[Volume] | Status:
        for name, ephemeral in pod.claims:
            claim = self._claim(pod, name)
            if claim is None:
                missing = not_found("persistentvolumeclaim", name)
                return unresolvable(f"looking up PVC {pod.namespace}/{name}: {missing}")
            if ephemeral and not is_of(claim, pod.obj):
                return error(
                    f"PVC {pod.namespace}/{name} was not created for pod {'/'.join(pod.key)} (pod is not owner)"
                )
        return self._volumes(pod)

    def _judge(self, new: set[Volume], node: NodeInfo) -> Status | None:
        limits = self._limits(node.name) if new else {}
        if not limits:
            return None
        attached = {volume for other in node.pods.values() for volume in self._volumes(other)}
        counts = Counter(driver for driver, _ in attached | self._attachments(node.name))
        wanted = Counter(driver for driver, _ in new - attached)
        if any(driver in limits and counts[driver] + count > limits[driver] for driver, count in wanted.items()):
            return unschedulable(REASON)
        return None

    def _limits(self, node: str) -> dict[str, int]:
        csi_node = self._handle.store("csinodes").get("", node)
        return limits_of(csi_node) if csi_node is not None else {}

    def _claim(self, pod: PodInfo, name: str) -> Object | None:
        return self._handle.store("persistentvolumeclaims").get(pod.namespace, name)

    def _volumes(self, pod: PodInfo) -> set[Volume]:
        claims = (self._claim(pod, name) for name, _ in pod.claims)
        return {volume for claim in claims if claim is not None and (volume := self._volume(claim)) is not None}

    def _volume(self, claim: Object) -> Volume | None:
        volume = self._handle.store("persistentvolumes").get("", claim["spec"].get("volumeName") or "")
        if volume is not None:
            csi = volume["spec"].get("csi")
            return (csi["driver"], csi["volumeHandle"]) if csi else None
        storage_class = self._handle.store("storageclasses").get("", class_of(claim))
        if storage_class is None:
            return None  # it is bound at once, so it has a volume before the pod is scheduled
        meta = claim["metadata"]
        return storage_class["provisioner"], f"{meta['namespace']}/{meta['name']}"

    def _attachments(self, node: str) -> set[Volume]:
        store = self._handle.store("volumeattachments")
        if not store.has_index(_NODE):
            store.add_index(_NODE, lambda obj: (obj["spec"]["nodeName"],))
        volumes = set()
        for attachment in store.by_index(_NODE, node):
            name = attachment["spec"]["source"].get("persistentVolumeName") or ""
            volume = self._handle.store("persistentvolumes").get("", name)
            if volume is not None and (csi := volume["spec"].get("csi")):
                volumes.add((attachment["spec"]["attacher"], csi["volumeHandle"]))
        return volumes

    def events(self) -> Iterable[Registration]:
        """The events after which a pod that this plugin refused may fit."""

        def raised(pod: PodInfo, old: Object, new: Object) -> bool:
            before = limits_of(old)
            return any(limit > before.get(driver, 0) for driver, limit in limits_of(new).items())

        def pod_gone(pod: PodInfo, old: PodInfo, new: None) -> bool:
            return bool(old.claims)

        def claim_added(pod: PodInfo, old: None, new: Object) -> bool:
            meta = new["metadata"]
            return meta["namespace"] == pod.namespace and any(meta["name"] == name for name, _ in pod.claims)

        def detached(pod: PodInfo, old: Object, new: None) -> bool:
            return any(not ephemeral for _, ephemeral in pod.claims)

        yield Registration(ClusterEvent(Resource.CSI_NODE, Action.ADD))
        yield Registration(ClusterEvent(Resource.CSI_NODE, Action.UPDATE), raised)
        yield Registration(ClusterEvent(Resource.ASSIGNED_POD, Action.DELETE), pod_gone)
        yield Registration(ClusterEvent(Resource.PVC, Action.ADD), claim_added)
        yield Registration(ClusterEvent(Resource.VOLUME_ATTACHMENT, Action.DELETE), detached)


def limits_of(csi_node: Object) -> dict[str, int]:
    """By driver; a driver without a limit is not in it."""
    drivers = csi_node["spec"].get("drivers") or ()
    counts = ((driver["name"], (driver.get("allocatable") or {}).get("count")) for driver in drivers)
    return {name: count for name, count in counts if count is not None}
