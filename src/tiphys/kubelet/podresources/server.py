"""Serves ``pod-resources/kubelet.sock``: which devices, processors, memory and claims each container of the node has.

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tiphys.kubelet.devices.ledger import Device
from tiphys.kubelet.devices.manager import DeviceManager
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.plugins.sockets import private_socket
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.podresources.messages import podresources
from tiphys.kubelet.topology.cpu_manager import CpuManager
from tiphys.kubelet.topology.memory_manager import MemoryManager
from tiphys.kubelet.topology.memory_state import Block
from tiphys.wire.grpc.codes import StatusCode
from tiphys.wire.grpc.server import GrpcServer, Rpc
from tiphys.wire.grpc.stream import GrpcError

log = logging.getLogger(__name__)

FOLDER, SOCKET = "pod-resources", "kubelet.sock"


class PodResources:
    """``active()`` gives the pods that run; ``named(namespace, name)`` one of all pods, or None."""

    def __init__(
        self,
        root: Path,
        *,
        devices: DeviceManager,
        claims: ClaimManager,
        cpus: CpuManager | None,
        memory: MemoryManager | None,
        active: Callable[[], Sequence[Pod]],
        named: Callable[[str, str], Pod | None],
    ) -> None:
        self._folder = root / FOLDER
        self._devices = devices
        self._claims = claims
        self._cpus = cpus
        self._memory = memory
        self._active = active
        self._named = named
        self._server: GrpcServer | None = None

    async def start(self) -> None:
        """Without this socket the kubelet works as well: nobody can look, and the log says so."""
        works = {"List": self._list, "GetAllocatableResources": self._allocatable, "Get": self._get}
        rpcs = {
            about.path: Rpc(about.request.FromString, about.response.SerializeToString, works[name])
            for name, about in podresources().methods("PodResourcesLister").items()
        }
        server = GrpcServer(rpcs, status_of=lambda error: None)
        try:
            self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            (self._folder / SOCKET).unlink(missing_ok=True)
            await server.listen(sock=private_socket(self._folder, SOCKET))
        except OSError as error:
            log.error("nobody can ask what containers have, as %s cannot be made: %s", self._folder / SOCKET, error)
        self._server = server

    async def close(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def _list(self, _: Any) -> Any:
        described = [self._of_pod(pod) for pod in self._active()]
        return podresources().message("ListPodResourcesResponse")(pod_resources=described)

    async def _allocatable(self, _: Any) -> Any:
        devices = [one for name, known in self._devices.allocatable().items() for one in _described(name, known)]
        cpus = sorted(self._cpus.allocatable) if self._cpus is not None else []
        memory = _memory(self._memory.allocatable) if self._memory is not None else []
        return podresources().message("AllocatableResourcesResponse")(devices=devices, cpu_ids=cpus, memory=memory)

    async def _get(self, request: Any) -> Any:
        pod = self._named(request.pod_namespace, request.pod_name)
        if pod is None:
            message = f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
            raise GrpcError(StatusCode.UNKNOWN, message)
        return podresources().message("GetPodResourcesResponse")(pod_resources=self._of_pod(pod))

    def _of_pod(self, pod: Pod) -> dict[str, Any]:
        """Init containers that have ended have nothing any more."""
        sidecars = [container for container in pods.init_containers(pod) if pods.is_sidecar(container)]
        containers = [self._of_container(pod, container) for container in (*sidecars, *pods.containers(pod))]
        return {"name": pods.name_of(pod), "namespace": pods.namespace_of(pod), "containers": containers}

    def _of_container(self, pod: Pod, container: ContainerSpec) -> dict[str, Any]:
        uid, name = pods.uid_of(pod), container["name"]
        given = self._devices.devices_of(uid, name)
        return {
            "name": name,
            "devices": [one for resource, devices in given.items() for one in _described(resource, devices)],
            "cpu_ids": sorted(self._cpus.exclusive(uid, name)) if self._cpus is not None else [],
            "memory": _memory(self._memory.blocks_of(uid, name)) if self._memory is not None else [],
            "dynamic_resources": self._claims_of(pod, container),
        }

    def _claims_of(self, pod: Pod, container: ContainerSpec) -> list[dict[str, Any]]:
        described = []
        for info, requests in self._claims.used_by(pod, container):
            resources = [
                {
                    "cdi_devices": [{"name": name} for name in device.cdi],
                    "driver_name": driver,
                    "pool_name": device.pool,
                    "device_name": device.device,
                    "share_id": device.share,
                }
                for driver, devices in info.drivers.items()
                for device in devices
                if device.is_for(requests)
            ]
            claim = {"claim_name": info.name, "claim_namespace": info.namespace, "claim_resources": resources}
            described.append(claim)
        return described


def _memory(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    return [
        {"memory_type": block.type, "size": block.size, "topology": {"nodes": [{"ID": node} for node in block.nodes]}}
        for block in blocks
    ]


def _described(resource: str, devices: Iterable[Device]) -> list[dict[str, Any]]:
    return [
        {
            "resource_name": resource,
            "device_ids": [device.id],
            "topology": {"nodes": [{"ID": node} for node in device.nodes]} if device.nodes else None,
        }
        for device in devices
    ]
