"""Gives each container of a pod, one after another, what the node hands out piece by piece: processors and devices.

With a topology policy, those who have something say on which NUMA nodes they could have it together, and one answer is
chosen before anything is given. Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tiphys.api.object import Object
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.topology.affinity import Affinities
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.failures import AssignmentFailure
from tiphys.kubelet.topology.hints import TopologyPolicy, merge


class Assigner:
    """``cpus`` is None if no container has processors for itself; ``changed`` is called when that has changed."""

    def __init__(
        self,
        devices: DeviceManager,
        claims: ClaimManager,
        *,
        cpus: CpuManager | None,
        policy: TopologyPolicy,
        nodes: Sequence[int],
        affinities: Affinities,
        changed: Callable[[], None],
    ) -> None:
        self._devices = devices
        self._claims = claims
        self._cpus = cpus
        self._policy = policy
        self._nodes = nodes
        self._affinities = affinities
        self._changed = changed

    def concerns(self, pod: Pod) -> bool:
        """Whether a pod wants anything of this kind."""
        return any(
            self._devices.wanted(container) or (self._cpus is not None and self._cpus.wanted(pod, container))
            for container in _containers(pod)
        )

    async def assign(self, pod: Pod) -> None:
        """Raises ``AssignmentFailure``; what was given by then is free when the pod is known to have failed."""
        uid = pods.uid_of(pod)
        self.release_ended()
        for container in _containers(pod):
            name = container["name"]
            hints = [self._devices.hints(pod, container)]
            if self._cpus is not None:
                hints.append(self._cpus.hints(pod, container))
            best, admitted = merge(self._policy, self._nodes, hints)
            if not admitted:
                raise AssignmentFailure("Resources cannot be allocated with Topology locality", "TopologyAffinityError")
            self._affinities.set(uid, name, best.nodes)
            if self._cpus is not None:
                self._cpus.allocate(pod, container, best.nodes)
                self._changed()
            await self._devices.allocate(pod, container)

    async def prepare(self, pod: Pod, container: ContainerSpec) -> ContainerExtras:
        """What a container needs beside its spec, before it is made. Raises ``AssignmentFailure``."""
        extras = await self._devices.prepare(pod, container)
        extras.add_cdi(self._claims.cdi_of(pod, container))
        return extras

    def release_ended(self) -> None:
        """What pods had that no longer run is free."""
        active = self._devices.release_ended()
        self._affinities.keep_only(active)
        if self._cpus is not None and self._cpus.keep_only(active):
            self._changed()

    def in_use(self, pod: Pod) -> Mapping[str, int]:
        """What is taken of resources that a pod was given some of, by all pods together."""
        return self._devices.in_use(pods.uid_of(pod))

    def holders(self) -> set[str]:
        """Uids of the pods that have something."""
        return self._devices.holders() | (self._cpus.holders() if self._cpus is not None else set())

    def show_health(self, pod: Pod, status: Object) -> None:
        """Add to a pod's status how the devices of its containers fare."""
        for container in status.get("containerStatuses") or []:
            if health := self._devices.health(pods.uid_of(pod), container["name"]):
                container["allocatedResourcesStatus"] = health


def _containers(pod: Pod) -> list[ContainerSpec]:
    return [*pods.init_containers(pod), *pods.containers(pod)]
