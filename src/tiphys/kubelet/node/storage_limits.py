"""Which pods store more than they may: an emptyDir's size limit, and limits on ephemeral storage. Pure.

Source: https://kubernetes.io/docs/concepts/storage/ephemeral-storage/#resource-ephemeralstorage-consumption
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.api.pods.resources import pod_limits
from tiphys.kubelet.node.storage import DiskUse, PodStorage
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import exact, value

_STORAGE = "ephemeral-storage"


def is_limited(pod: Pod) -> bool:
    """Whether anything that the pod stores has a limit."""
    return any(_size_limits(pod)) or _STORAGE in pod_limits(pod)


def _size_limits(pod: Pod) -> list[tuple[str, str]]:
    limits = ((v["name"], (v.get("emptyDir") or {}).get("sizeLimit")) for v in pods.spec_of(pod).get("volumes") or [])
    return [(name, str(limit)) for name, limit in limits if limit is not None and exact(limit) > 0]


def is_ephemeral(volume: Object) -> bool:
    """Whether a volume counts as ephemeral storage of its pod."""
    empty = volume.get("emptyDir")
    return (empty is not None and not empty.get("medium")) or volume.get("configMap") is not None


def ephemeral_use(pod: Pod, storage: PodStorage, layers: Mapping[str, DiskUse]) -> DiskUse:
    """What a pod uses in all: its containers' layers and logs, its volumes, and what is kept of it."""
    names = {volume["name"] for volume in pods.spec_of(pod).get("volumes") or [] if is_ephemeral(volume)}
    total = storage.other
    for use in (*layers.values(), *storage.logs.values()):
        total += use
    for name, volume in storage.volumes.items():
        if name in names:
            total += volume.use
    return total


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a pod exceeds: the signal by which upstream counts it, and its words for it."""

    signal: str
    message: str


def exceeded(
    pod: Pod, storage: PodStorage, layers: Mapping[str, DiskUse], *, layers_count: bool = True
) -> Excess | None:
    """Which limit a pod exceeds, the first; None if none. ``layers`` are its containers' own files, and whether they
    count for a container's limit says ``layers_count``: not, where they are on a file system of their own."""
    for name, limit in _size_limits(pod):
        if name in storage.volumes and storage.volumes[name].use.bytes > value(limit):
            return Excess("emptydirfs.limit", f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". ')
    limits = pod_limits(pod)
    if _STORAGE in limits and ephemeral_use(pod, storage, layers).bytes > limits[_STORAGE].value():
        text = f"Pod ephemeral local storage usage exceeds the total limit of containers {limits[_STORAGE]}. "
        return Excess("ephemeralpodfs.limit", text)
    for container in pods.containers(pod):
        name, allowed = container["name"], ((container.get("resources") or {}).get("limits") or {}).get(_STORAGE)
        used = storage.logs.get(name, DiskUse()) + (layers.get(name, DiskUse()) if layers_count else DiskUse())
        if value(allowed) and used.bytes > value(allowed):
            text = f'Container {name} exceeded its local ephemeral storage limit "{allowed}". '
            return Excess("ephemeralcontainerfs.limit", text)
    return None
