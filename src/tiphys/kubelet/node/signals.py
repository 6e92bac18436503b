"""The signals of eviction: what each measures, which condition of the node it makes, and what is done for it. Pure.

Where a runtime keeps images and containers decides part of that: on the node's own file system, on one of their own, or
on two (KEP-4191). Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MEMORY = "memory.available"
PODS_MEMORY = "allocatableMemory.available"
NODE_DISK, NODE_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGE_DISK, IMAGE_INODES = "imagefs.available", "imagefs.inodesFree"
CONTAINER_DISK, CONTAINER_INODES = "containerfs.available", "containerfs.inodesFree"
PIDS = "pid.available"

STORAGE = "ephemeral-storage"

RESOURCES = {
    MEMORY: "memory",
    PODS_MEMORY: "memory",
    NODE_DISK: STORAGE,
    NODE_INODES: "inodes",
    IMAGE_DISK: STORAGE,
    IMAGE_INODES: "inodes",
    CONTAINER_DISK: STORAGE,
    CONTAINER_INODES: "inodes",
    PIDS: "pids",
}
"""What runs short, by signal, in the order in which it is reclaimed."""

_CONDITIONS = {"memory": "MemoryPressure", "pids": "PIDPressure"}
_ORDER = tuple(RESOURCES)


def condition_of(signal: str) -> str:
    """The node's condition."""
    return _CONDITIONS.get(RESOURCES[signal], "DiskPressure")


def urgency(signal: str) -> int:
    """Memory comes first, of all pods or of the node."""
    return _ORDER.index(signal)


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """``dedicated``: images have a file system of their own; ``split``: containers are not on the images' one."""

    dedicated: bool = False
    split: bool = False

    @property
    def containers_like_nodes(self) -> bool | None:
        """Whether the containers' file system is the node's; False if it is the images', None for a third one."""
        if self.dedicated == self.split:
            return True
        return False if self.dedicated else None


class Part(Enum):
    """What a pod keeps on disks."""

    LAYERS = "what its containers wrote beside their volumes"
    LOGS = "its containers' logs"
    VOLUMES = "its local volumes"


class Reclaim(Enum):
    """What frees a disk without ending a pod."""

    CONTAINERS = "remove containers that have ended"
    IMAGES = "remove images that nobody uses"


_ALL = frozenset(Part)


def parts_of(signal: str, layout: DiskLayout) -> frozenset[Part]:
    """What of a pod is on the file system that a signal is about."""
    if not layout.dedicated:
        return _ALL
    if signal in (IMAGE_DISK, IMAGE_INODES):
        return frozenset() if layout.split else frozenset({Part.LAYERS})
    if signal in (CONTAINER_DISK, CONTAINER_INODES) and not layout.split:
        return frozenset({Part.LAYERS})
    return _ALL if layout.split else frozenset({Part.LOGS, Part.VOLUMES})


def reclaims_for(signal: str, layout: DiskLayout) -> tuple[Reclaim, ...]:
    """What is tried before a pod is ended, in this order."""
    if RESOURCES[signal] not in (STORAGE, "inodes"):
        return ()
    both = (Reclaim.CONTAINERS, Reclaim.IMAGES)
    if not layout.dedicated:
        return both
    if layout.split:
        return (Reclaim.IMAGES,) if signal in (IMAGE_DISK, IMAGE_INODES) else (Reclaim.CONTAINERS,)
    return () if signal in (NODE_DISK, NODE_INODES) else both
