"""Gives each container of a pod, one after another, what the node hands out piece by piece.

Source: https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.api.object import Object
from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod


class Assigner:
    def __init__(self, devices: DeviceManager, claims: ClaimManager) -> None:
        self._devices = devices
        self._claims = claims

    def concerns(self, pod: Pod) -> bool:
        """Whether a pod wants anything of this kind."""
        return any(self._devices.wanted(container) for container in _containers(pod))

    async def assign(self, pod: Pod) -> None:
        """Raises ``AssignmentFailure``; what was given by then is free when the pod is known to have failed."""
        for container in _containers(pod):
            await self._devices.allocate(pod, container)

    async def prepare(self, pod: Pod, container: ContainerSpec) -> ContainerExtras:
        """What a container needs beside its spec, before it is made. Raises ``AssignmentFailure``."""
        extras = await self._devices.prepare(pod, container)
        extras.add_cdi(self._claims.cdi_of(pod, container))
        return extras

    def in_use(self, pod: Pod) -> Mapping[str, int]:
        """What is taken of resources that a pod was given some of, by all pods together."""
        return self._devices.in_use(pods.uid_of(pod))

    def show_health(self, pod: Pod, status: Object) -> None:
        """Add to a pod's status how the devices of its containers fare."""
        for container in status.get("containerStatuses") or []:
            if health := self._devices.health(pods.uid_of(pod), container["name"]):
                container["allocatedResourcesStatus"] = health


def _containers(pod: Pod) -> list[ContainerSpec]:
    return [*pods.init_containers(pod), *pods.containers(pod)]
