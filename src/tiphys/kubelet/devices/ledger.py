"""Which devices each container has, and what its plugin said about them; kept over restarts of the kubelet. Pure.

The form on disk is upstream's ``kubelet_internal_checkpoint``. Source:
https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.kubelet import checkpoints
from tiphys.kubelet.checkpoints import CheckpointCorrupt, spewed_list, spewed_map, spewed_struct
from tiphys.kubelet.devices.messages import deviceplugin

NO_NUMA = -1
"""Where devices are that belong to no NUMA node."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as its plugin describes it."""

    id: str
    health: str
    nodes: tuple[int, ...] = ()
    """NUMA nodes."""


@dataclass(slots=True)
class Allocation:
    """Devices of one resource that a container has. ``response`` is a ``ContainerAllocateResponse``."""

    by_node: dict[int, list[str]]
    response: Any

    def ids(self) -> set[str]:
        return {device for devices in self.by_node.values() for device in devices}

    def devices(self) -> Iterator[Device]:
        """With the NUMA nodes of each, in order; their health is not known here."""
        nodes: dict[str, list[int]] = {}
        for node in sorted(self.by_node):
            for device in self.by_node[node]:
                nodes.setdefault(device, []).extend([node] if node != NO_NUMA else [])
        return (Device(device, "", tuple(nodes[device])) for device in sorted(nodes))


def by_node(devices: Iterable[Device]) -> dict[int, list[str]]:
    nodes: dict[int, list[str]] = {}
    for device in devices:
        for node in device.nodes or (NO_NUMA,):
            nodes.setdefault(node, []).append(device.id)
    return nodes


Containers = dict[str, dict[str, Allocation]]
"""By container and resource."""


@dataclass(slots=True)
class DeviceLedger:
    pods: dict[str, Containers] = field(default_factory=dict)
    """By the pod's uid."""
    reserved: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """By resource and the pod's uid: devices that a plugin is being asked about."""

    def of(self, uid: str, container: str) -> Mapping[str, Allocation]:
        return self.pods.get(uid, {}).get(container, {})

    def in_use(self, resource: str) -> set[str]:
        """Devices that some container has, or is about to get."""
        used: set[str] = set()
        for containers in self.pods.values():
            for allocations in containers.values():
                if resource in allocations:
                    used |= allocations[resource].ids()
        for devices in self.reserved.get(resource, {}).values():
            used |= devices
        return used

    def resources_in_use(self) -> set[str]:
        return {
            resource
            for containers in self.pods.values()
            for allocations in containers.values()
            for resource in allocations
        }

    def reserve(self, uid: str, resource: str, devices: Collection[str]) -> None:
        self.reserved.setdefault(resource, {}).setdefault(uid, set()).update(devices)

    def unreserve(self, uid: str, resource: str, devices: Collection[str]) -> None:
        of_pod = self.reserved.get(resource, {})
        of_pod.get(uid, set()).difference_update(devices)
        if not of_pod.get(uid):
            of_pod.pop(uid, None)

    def insert(self, uid: str, container: str, resource: str, allocation: Allocation) -> None:
        self.pods.setdefault(uid, {}).setdefault(container, {})[resource] = allocation

    def keep_only(self, uids: Collection[str]) -> bool:
        """Forget all other pods; returns whether there was one."""
        gone = [uid for uid in self.pods if uid not in uids]
        for uid in gone:
            del self.pods[uid]
        return bool(gone)

    def holder(self, resource: str, device: str) -> str | None:
        """The uid of the pod that has a device."""
        for uid, containers in self.pods.items():
            for allocations in containers.values():
                if resource in allocations and device in allocations[resource].ids():
                    return uid
        return None


def to_checkpoint(ledger: DeviceLedger, registered: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """The document to write. ``registered``: the healthy devices of each resource."""
    entries = [
        {
            "PodUID": uid,
            "ContainerName": container,
            "ResourceName": resource,
            "DeviceIDs": {str(node): devices for node, devices in sorted(allocation.by_node.items())},
            "AllocResp": base64.b64encode(allocation.response.SerializeToString(deterministic=True)).decode(),
        }
        for uid, containers in ledger.pods.items()
        for container, allocations in containers.items()
        for resource, allocation in allocations.items()
    ]
    data = {
        "PodDeviceEntries": entries,
        "RegisteredDevices": {resource: sorted(devices) for resource, devices in sorted(registered.items())},
    }
    return {"Data": data, "Checksum": checkpoints.checksum(_spewed(data))}


def from_checkpoint(document: Any) -> tuple[DeviceLedger, set[str]]:
    """The ledger, and the resources that had been registered. Raises ``CheckpointCorrupt``."""
    response = deviceplugin().message("ContainerAllocateResponse")
    ledger = DeviceLedger()
    try:
        data = document["Data"]
        if checkpoints.checksum(_spewed(data)) != document["Checksum"]:
            raise CheckpointCorrupt("checkpoint is corrupted")
        for entry in data["PodDeviceEntries"] or []:
            devices = {int(node): list(ids or []) for node, ids in (entry["DeviceIDs"] or {}).items()}
            said = response.FromString(base64.b64decode(entry["AllocResp"] or ""))
            allocation = Allocation(devices, said)
            ledger.insert(entry["PodUID"], entry["ContainerName"], entry["ResourceName"], allocation)
        return ledger, set(data["RegisteredDevices"] or {})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointCorrupt(f"the checkpoint has another form: {error!r}") from error


def _spewed(data: Mapping[str, Any]) -> str:
    return "(checkpoint.checkpointData)" + spewed_struct(
        {
            "PodDeviceEntries": "([]checkpoint.PodDevicesEntry)" + spewed_list(data["PodDeviceEntries"], _spewed_entry),
            "RegisteredDevices": "(map[string][]string)" + spewed_map(data["RegisteredDevices"], spewed_list),
        }
    )


def _spewed_entry(entry: Mapping[str, Any]) -> str:
    devices, said = entry["DeviceIDs"], entry["AllocResp"]
    by_number = None if devices is None else {int(node): ids for node, ids in devices.items()}
    return spewed_struct(
        {
            "PodUID": f"(string){entry['PodUID']}",
            "ContainerName": f"(string){entry['ContainerName']}",
            "ResourceName": f"(string){entry['ResourceName']}",
            "DeviceIDs": "(checkpoint.DevicesPerNUMA)" + spewed_map(by_number, spewed_list),
            "AllocResp": "([]uint8)" + spewed_list(None if said is None else base64.b64decode(said)),
        }
    )
