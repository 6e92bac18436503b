"""Gives each container of a pod, one after another, what the node hands out piece by piece: processors, devices
and memory.

With a topology policy, those who have something say on which NUMA nodes they could have it together, and one answer is
chosen before anything is given. Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tiphys.api.object import Object
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.dra.health import HealthMonitor
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.topology.affinity import Affinities
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import Distances, Hint, Hints, TopologyPolicy, TopologyScope, merge
from tiphys.kubelet.topology.memory_manager import MemoryManager


class HintProvider(Protocol):
    """Somebody who has something for containers, and says where."""

    def hints(self, pod: Pod, container: ContainerSpec) -> Hints: ...

    def pod_hints(self, pod: Pod) -> Hints: ...


@dataclass(frozen=True, slots=True)
class TopologyRules:
    """``distances`` is None if it does not matter how close nodes are."""

    policy: TopologyPolicy = TopologyPolicy.NONE
    scope: TopologyScope = TopologyScope.CONTAINER
    nodes: Sequence[int] = ()
    distances: Distances | None = None


class Assigner:
    """``cpus`` is None if no container has processors for itself, ``memory`` if none has memory on nodes of its own;
    ``changed`` is called when the processors have changed. ``rules`` say how all of them come together."""

    def __init__(
        self,
        devices: DeviceManager,
        claims: ClaimManager,
        *,
        cpus: CpuManager | None,
        memory: MemoryManager | None,
        rules: TopologyRules,
        affinities: Affinities,
        changed: Callable[[], None],
        device_health: HealthMonitor | None = None,
    ) -> None:
        self._device_health = device_health
        self._devices = devices
        self._claims = claims
        self._cpus = cpus
        self._memory = memory
        self._rules = rules
        self._affinities = affinities
        self._changed = changed

    def concerns(self, pod: Pod) -> bool:
        """Whether a pod wants anything of this kind."""
        return any(
            self._devices.wanted(pod, container)
            or (self._cpus is not None and self._cpus.wanted(pod, container))
            or (self._memory is not None and self._memory.wanted(pod, container))
            for container in _containers(pod)
        )

    async def assign(self, pod: Pod) -> None:
        """Raises ``AssignmentFailure``; what was given by then is free when the pod is known to have failed."""
        uid = pods.uid_of(pod)
        self.release_ended()
        providers: list[HintProvider] = [self._devices]
        providers += [manager for manager in (self._cpus, self._memory) if manager is not None]
        for_all = None
        if self._rules.scope is TopologyScope.POD and self._rules.policy is not TopologyPolicy.NONE:
            for_all = self._agreed([provider.pod_hints(pod) for provider in providers])
        for container in _containers(pod):
            best = for_all or self._agreed([provider.hints(pod, container) for provider in providers])
            self._affinities.set(uid, container["name"], best.nodes)
            if self._cpus is not None:
                self._cpus.allocate(pod, container, best.nodes)
                self._changed()
            await self._devices.allocate(pod, container)
            if self._memory is not None:
                self._memory.allocate(pod, container, best)

    def _agreed(self, hints: Sequence[Hints]) -> Hint:
        """Raises ``AssignmentFailure``."""
        rules = self._rules
        best, admitted = merge(rules.policy, rules.nodes, hints, rules.distances)
        if not admitted:
            raise AssignmentFailure("Resources cannot be allocated with Topology locality", "TopologyAffinityError")
        return Hint(None, preferred=False) if rules.policy is TopologyPolicy.NONE else best

    async def prepare(self, pod: Pod, container: ContainerSpec) -> ContainerExtras:
        """What a container needs beside its spec, before it is made. Raises ``AssignmentFailure``."""
        if self._memory is not None:
            self._memory.starts(pod, container)
        if self._cpus is not None and self._cpus.starts(pod, container):
            self._changed()
        extras = await self._devices.prepare(pod, container)
        extras.add_cdi(self._claims.cdi_of(pod, container))
        return extras

    def release_ended(self) -> None:
        """What pods had that no longer run is free."""
        active = self._devices.release_ended()
        self._affinities.keep_only(active)
        if self._memory is not None:
            self._memory.keep_only(active)
        if self._cpus is not None and self._cpus.keep_only(active):
            self._changed()

    def has_processors(self, uid: str) -> bool:
        """Whether a container of the pod has processors for itself."""
        return self._cpus is not None and uid in self._cpus.holders()

    def in_use(self, pod: Pod) -> Mapping[str, int]:
        """What is taken of resources that a pod was given some of, by all pods together."""
        return self._devices.in_use(pods.uid_of(pod))

    def holders(self) -> set[str]:
        """Uids of the pods that have something."""
        managers = [manager for manager in (self._devices, self._cpus, self._memory) if manager is not None]
        return set[str]().union(*(manager.holders() for manager in managers))

    def show_health(self, pod: Pod, status: Object) -> None:
        """Add to a pod's status how the devices of its containers fare."""
        for container in status.get("containerStatuses") or []:
            health = self._devices.health(pods.uid_of(pod), container["name"])
            spec = pods.find_container(pod, container["name"])
            if spec is not None and self._device_health is not None:
                health += self._claims.health(pod, spec[1], self._device_health.get)
            if health:
                container["allocatedResourcesStatus"] = health


def _containers(pod: Pod) -> list[ContainerSpec]:
    return [*pods.init_containers(pod), *pods.containers(pod)]
