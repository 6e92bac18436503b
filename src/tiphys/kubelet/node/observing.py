"""What the node has left of each resource that eviction watches. Reads /proc, cgroups and file systems.

The figures are those of the summary API. Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from tiphys.kubelet.node.measures import cgroup_use, read_node
from tiphys.kubelet.node.signals import (
    CONTAINER_DISK,
    CONTAINER_INODES,
    IMAGE_DISK,
    IMAGE_INODES,
    MEMORY,
    NODE_DISK,
    NODE_INODES,
    PIDS,
    PODS_MEMORY,
    DiskLayout,
)
from tiphys.kubelet.node.storage import filesystem_of
from tiphys.kubelet.node.thresholds import Signal
from tiphys.kubelet.runtime.service import ImageService

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """A folder on the node's file system, on that of images, and on that of containers."""

    node: str
    images: str
    containers: str

    @property
    def layout(self) -> DiskLayout:
        """Raises ``OSError``."""
        node, images, containers = (os.stat(path).st_dev for path in (self.node, self.images, self.containers))
        split = images != containers
        return DiskLayout(dedicated=images != node or split, split=split)


async def find_places(root: Path, images: ImageService) -> Places:
    """``root`` is the kubelet's folder; where the others are says the runtime. Raises ``RuntimeFailure``."""
    node = str(existing(root))
    filesystems = await images.image_filesystems()
    of_images = str(existing(Path(filesystems.images[0].mountpoint))) if filesystems.images else node
    of_containers = str(existing(Path(filesystems.containers[0].mountpoint))) if filesystems.containers else of_images
    return Places(node, of_images, of_containers)


def existing(path: Path) -> Path:
    """The path, or the closest folder above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def read_signals(places: Places, pods_cgroup: str) -> dict[str, Signal]:
    """Raises ``OSError``."""
    machine = read_node(0.0)
    signals = {
        MEMORY: Signal(max(0, machine.memory_capacity - machine.use.working_set), machine.memory_capacity),
        PIDS: Signal(machine.max_pid - machine.processes, machine.max_pid),
    }
    if (pods := cgroup_use(pods_cgroup)) is not None:
        limit = pods.limit or machine.memory_capacity
        free = max(0, limit - pods.working_set)
        signals[PODS_MEMORY] = Signal(free, free + pods.working_set)
    for path, disk, inodes in (
        (places.node, NODE_DISK, NODE_INODES),
        (places.images, IMAGE_DISK, IMAGE_INODES),
        (places.containers, CONTAINER_DISK, CONTAINER_INODES),
    ):
        try:
            whole = filesystem_of(path)
        except OSError as error:  # the others count all the same
            log.warning("cannot measure what %s and %s are about: %s", disk, inodes, error)
            continue
        signals[disk] = Signal(whole.available, whole.capacity)
        if whole.inodes:  # some file systems count none
            signals[inodes] = Signal(whole.inodes_free, whole.inodes)
    return signals
