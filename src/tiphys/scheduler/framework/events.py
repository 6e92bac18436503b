"""Changes in the cluster that may make a waiting pod schedulable, and plugins' hints about them. Source: KEP-4247."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiphys.scheduler.framework.podinfo import PodInfo


class Resource(Enum):
    POD = "Pod"
    """Any pod, the waiting one included."""
    ASSIGNED_POD = "AssignedPod"
    """A pod that has a node."""
    NODE = "Node"
    PVC = "PersistentVolumeClaim"
    PV = "PersistentVolume"
    STORAGE_CLASS = "StorageClass"
    CSI_NODE = "CSINode"
    CSI_DRIVER = "CSIDriver"
    CSI_STORAGE_CAPACITY = "CSIStorageCapacity"
    VOLUME_ATTACHMENT = "VolumeAttachment"
    RESOURCE_CLAIM = "ResourceClaim"
    DEVICE_CLASS = "DeviceClass"
    RESOURCE_SLICE = "ResourceSlice"
    EVERYTHING = "*"


class Action(Flag):
    ADD = auto()
    DELETE = auto()
    UPDATE_ALLOCATABLE = auto()
    UPDATE_LABEL = auto()
    UPDATE_TAINT = auto()
    UPDATE_CONDITION = auto()
    UPDATE_ANNOTATION = auto()
    UPDATE_OTHER = auto()
    SCALE_DOWN = auto()
    """A pod's requests shrank."""
    TOLERATION = auto()
    GATES_GONE = auto()
    CLAIMS_MADE = auto()
    """A pod's resource claims were generated."""
    UPDATE = (
        UPDATE_ALLOCATABLE
        | UPDATE_LABEL
        | UPDATE_TAINT
        | UPDATE_CONDITION
        | UPDATE_ANNOTATION
        | UPDATE_OTHER
        | SCALE_DOWN
        | TOLERATION
        | GATES_GONE
        | CLAIMS_MADE
    )
    ALL = ADD | DELETE | UPDATE


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    resource: Resource
    action: Action

    def concerns(self, happened: ClusterEvent) -> bool:
        """Whether what happened is among what this names."""
        if self.resource is Resource.EVERYTHING or happened.resource is Resource.EVERYTHING:
            return True
        same = self.resource is happened.resource
        assigned = self.resource is Resource.POD and happened.resource is Resource.ASSIGNED_POD
        return (same or assigned) and bool(self.action & happened.action)


Hint = Callable[["PodInfo", Any, Any], bool]
"""(waiting pod, old object, new object) → whether it should be tried again. Objects are ``PodInfo``,
``NodeInfo``, or those of the API for other resources; an absent one is None."""


def always(pod: PodInfo, old: Any, new: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Registration:
    """A plugin's interest in an event."""

    event: ClusterEvent
    hint: Hint = always


EVERYTHING = ClusterEvent(Resource.EVERYTHING, Action.ALL)
"""Try all waiting pods again."""
