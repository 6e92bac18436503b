"""Who is evicted first when a resource of the node runs short, and what is said of it. Pure.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.meta.quantity import Format, Quantity
from tiphys.api.pods.resources import has_pod_level, request_for
from tiphys.kubelet.node.signals import RESOURCES, STORAGE, DiskLayout, Part, parts_of
from tiphys.kubelet.node.storage import DiskUse, PodStorage
from tiphys.kubelet.node.storage_limits import is_ephemeral
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import exact

_NOTHING = DiskUse()


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """``memory`` is the working set in bytes."""

    memory: int = 0
    layer: DiskUse = _NOTHING
    logs: DiskUse = _NOTHING


@dataclass(frozen=True, slots=True)
class PodUse:
    """``containers`` and ``volumes`` by name."""

    containers: Mapping[str, ContainerUse] = field(default_factory=dict)
    volumes: Mapping[str, DiskUse] = field(default_factory=dict)
    processes: int = 0

    @property
    def memory(self) -> int:
        return sum(container.memory for container in self.containers.values())


def pod_use(storage: PodStorage, containers: Mapping[str, tuple[int, DiskUse]], processes: int) -> PodUse:
    """``containers`` are the working set and the layer of each by name."""
    uses = {
        name: ContainerUse(memory, layer, storage.logs.get(name, _NOTHING))
        for name, (memory, layer) in containers.items()
    }
    return PodUse(uses, {name: volume.use for name, volume in storage.volumes.items()}, processes)


def disk_use_of(pod: Pod, use: PodUse, parts: Collection[Part]) -> DiskUse:
    """What the pod keeps of these parts."""
    total = _NOTHING
    for container in use.containers.values():
        total += container.layer if Part.LAYERS in parts else _NOTHING
        total += container.logs if Part.LOGS in parts else _NOTHING
    if Part.VOLUMES in parts:
        for volume in pods.spec_of(pod).get("volumes") or []:
            local = volume.get("hostPath") is not None or is_ephemeral(volume)
            total += use.volumes.get(volume["name"], _NOTHING) if local else _NOTHING
    return total


Key = Callable[[Pod, PodUse | None], tuple[int, ...]]
"""By which pods are put in order; a pod of which nothing is known comes before others that are like it."""


def rank(signal: str, layout: DiskLayout, candidates: Sequence[Pod], uses: Mapping[str, PodUse]) -> list[Pod]:
    """The order of eviction. ``uses`` by uid."""
    key = _key(signal, layout)
    return sorted(candidates, key=lambda pod: key(pod, uses.get(pods.uid_of(pod))))


def _key(signal: str, layout: DiskLayout) -> Key:
    resource = RESOURCES[signal]
    if resource == "pids":
        return _by_processes
    if resource == "memory":
        return lambda pod, use: _by_surplus(pod, use, lambda one: one.memory, "memory", "memory")
    parts = parts_of(signal, layout)

    def used(pod: Pod, use: PodUse) -> int:
        disk = disk_use_of(pod, use, parts)
        return disk.bytes if resource == STORAGE else disk.inodes

    return lambda pod, use: _by_surplus(pod, use, lambda one: used(pod, one), resource, STORAGE)


def _priority(pod: Pod) -> int:
    return int(pods.spec_of(pod).get("priority") or 0)


def _by_processes(pod: Pod, use: PodUse | None) -> tuple[int, ...]:
    """The less important first, then those with the most processes."""
    return (_priority(pod), use is not None, -use.processes if use else 0)


def _by_surplus(
    pod: Pod, use: PodUse | None, measure: Callable[[PodUse], int], resource: str, requested: str
) -> tuple[int, ...]:
    """Pods over their requests first, then the less important, then the largest surplus. Nobody requests inodes, so a
    pod with any is over its request of them; upstream takes the request of bytes off their number all the same."""
    if use is None:
        return (0, 0, _priority(pod), 0)
    used = measure(use)
    over = used > request_for(pod, resource)
    return (1, not over, _priority(pod), request_for(pod, requested) - used)


def explain(resource: str, pod: Pod, use: PodUse | None, shortage: str) -> tuple[str, dict[str, str]]:
    """Upstream's words, and the annotations of the event: what ran out, and which containers used more than they
    requested. ``shortage`` is how much there is."""
    text, annotations = f"The node was low on resource: {resource}. {shortage}", dict[str, str]()
    if use is None:
        return text, annotations
    spec = pods.spec_of(pod)
    request = ((spec.get("resources") or {}).get("requests") or {}).get(resource)
    if resource == "memory" and has_pod_level(spec) and request is not None:
        name, used = pods.name_of(pod), _bytes(use.memory)
        text += (
            f"Pod {name} was using {used}, request is {Quantity(str(request))}, has larger consumption of {resource}. "
        )
        annotations |= {"offending_pod": name, "offending_pod_usage": used}
    offending: list[tuple[str, str]] = []
    asked = {c["name"]: c for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))}
    for name, own in use.containers.items():
        if name not in asked or resource not in (STORAGE, "memory"):
            continue
        amount = own.memory if resource == "memory" else own.layer.bytes + own.logs.bytes
        request = ((asked[name].get("resources") or {}).get("requests") or {}).get(resource, "0")
        if amount * 10**9 > exact(request):
            text += f"Container {name} was using {_bytes(amount)}, request is {Quantity(str(request))}, "
            text += f"has larger consumption of {resource}. "
            offending.append((name, _bytes(amount)))
    annotations["offending_containers"] = ",".join(name for name, _ in offending)
    annotations["offending_containers_usage"] = ",".join(used for _, used in offending)
    annotations["starved_resource"] = resource
    return text, annotations


def _bytes(amount: int) -> str:
    return str(Quantity.of(amount, Format.BINARY_SI))
