"""One device plugin: what it is asked, and how its answers are read.

Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from tiphys.kubelet.container.extras import ContainerExtras
from tiphys.kubelet.container.runtime_config import DevicePoint, MountPoint
from tiphys.kubelet.devices.ledger import Device
from tiphys.kubelet.devices.messages import deviceplugin
from tiphys.wire.grpc.caller import Caller

_CONNECT_TIMEOUT = 10.0
_PRE_START_TIMEOUT = 30.0
_ALLOCATE_TIMEOUT = 120.0
"""Upstream waits without end; what a plugin has not answered by then it does not answer."""


class DevicePlugin:
    """``options`` are known after ``connect``. Every method raises ``GrpcError``."""

    def __init__(self, resource: str, socket: str) -> None:
        self.resource = resource
        self.socket = socket
        self.pre_start = False
        self.prefers = False
        self._caller = Caller(socket, deviceplugin(), patient=True)

    async def connect(self) -> None:
        options = await self._caller.call("GetDevicePluginOptions", _CONNECT_TIMEOUT)
        self.pre_start = options.pre_start_required
        self.prefers = options.get_preferred_allocation_available

    async def watch(self) -> AsyncIterator[dict[str, Device]]:
        """The plugin's devices, whenever they change."""
        async for answer in self._caller.stream("ListAndWatch"):
            yield {
                device.ID: Device(device.ID, device.health, tuple(node.ID for node in device.topology.nodes))
                for device in answer.devices
            }

    async def preferred(self, available: Sequence[str], included: Sequence[str], size: int) -> list[str]:
        """Which devices the plugin would give; ``included`` are to be among them."""
        asked = {
            "available_deviceIDs": available,
            "must_include_deviceIDs": included,
            "allocation_size": size,
        }
        answer = await self._caller.call("GetPreferredAllocation", _ALLOCATE_TIMEOUT, container_requests=[asked])
        return list(answer.container_responses[0].deviceIDs) if answer.container_responses else []

    async def allocate(self, devices: Sequence[str]) -> Any | None:
        """The ``ContainerAllocateResponse`` for one container, or None if the plugin gave none."""
        answer = await self._caller.call("Allocate", _ALLOCATE_TIMEOUT, container_requests=[{"devices_ids": devices}])
        return answer.container_responses[0] if answer.container_responses else None

    async def pre_start_container(self, devices: Sequence[str]) -> None:
        await self._caller.call("PreStartContainer", _PRE_START_TIMEOUT, devices_ids=devices)

    async def close(self) -> None:
        await self._caller.close()


def extras_of(response: Any) -> ContainerExtras:
    """What a ``ContainerAllocateResponse`` adds to the container."""
    mounts = (MountPoint(m.container_path, m.host_path, m.read_only) for m in response.mounts)
    devices = (DevicePoint(d.container_path, d.host_path, d.permissions) for d in response.devices)
    extras = ContainerExtras(
        environment=dict(response.envs),
        mounts={mount.container_path: mount for mount in mounts},
        devices={device.container_path: device for device in devices},
        annotations=dict(response.annotations),
    )
    extras.add_cdi(device.name for device in response.cdi_devices)
    return extras
