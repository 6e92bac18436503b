"""The Node object: labels, capacity, conditions and the rest of its status. Pure.

Source: https://kubernetes.io/docs/reference/node/node-status/ and …/labels-annotations-taints/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.cloudnodes import PROVIDED_NODE_IP, UNINITIALIZED
from tiphys.api.meta.conditions import find_condition, transition_time
from tiphys.api.object import Object
from tiphys.api.pods.resources import is_extended
from tiphys.kubelet.node.machine import MachineInfo
from tiphys.kubelet.quantities import binary, milli, value
from tiphys.runtime.version import git_version


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node's status is made of."""

    name: str
    machine: MachineInfo
    addresses: Sequence[tuple[str, str]]
    """(type, address), such as ``("InternalIP", "10.0.0.1")``."""
    runtime_version: str
    external_cloud: bool = False
    """Addresses that a cloud's controllers have given the node are left as they are."""
    provider_id: str = ""
    insisted_addresses: str = ""
    """Those that the cloud is to choose, with commas between; empty for any."""
    port: int = 10250
    max_pods: int = 110
    reserved: Mapping[str, str] = field(default_factory=dict)
    """Resources kept for the system (systemReserved and kubeReserved together)."""
    eviction_memory: int = 0
    """Bytes that eviction keeps free."""
    eviction_storage: int = 0
    images: Sequence[Object] = ()
    most_images: int = 50
    """So many are listed, the largest; -1 for all."""
    not_ready: str = ""
    """Why the node cannot run pods; empty if it can."""
    memory_pressure: bool = False
    disk_pressure: bool = False
    pid_pressure: bool = False
    volumes_in_use: Sequence[str] = ()
    devices: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By resource: how many of its devices there are, and how many can be given to pods."""
    forgets_devices: bool = False
    """Whether what an earlier kubelet said of extended resources is void, as this one has no record of any."""


def default_labels(name: str, machine: MachineInfo) -> dict[str, str]:
    return {
        "beta.kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }


def capacity(facts: NodeFacts) -> dict[str, str]:
    machine = facts.machine
    return {
        "cpu": str(machine.cpus),
        "ephemeral-storage": f"{machine.storage // 1024}Ki",
        **{name: binary(size) for name, size in machine.huge_pages},
        "memory": f"{machine.memory // 1024}Ki",
        "pods": str(facts.max_pods),
        **{name: str(amount) for name, (amount, _) in sorted(facts.devices.items())},
    }


def allocatable(facts: NodeFacts) -> dict[str, str]:
    """Capacity without what is reserved, and without what eviction keeps free."""
    machine, reserved = facts.machine, facts.reserved
    cpu = machine.cpus * 1000 - milli(reserved.get("cpu"))
    pages = sum(size for _, size in machine.huge_pages)
    memory = machine.memory - value(reserved.get("memory")) - facts.eviction_memory - pages
    storage = machine.storage - value(reserved.get("ephemeral-storage")) - facts.eviction_storage
    return capacity(facts) | {
        "cpu": str(cpu // 1000) if cpu % 1000 == 0 else f"{cpu}m",
        "ephemeral-storage": str(max(storage, 0)),
        "memory": f"{max(memory, 0) // 1024}Ki",
        **{name: str(amount) for name, (_, amount) in sorted(facts.devices.items())},
    }


def _most(facts: NodeFacts) -> int | None:
    return None if facts.most_images < 0 else facts.most_images


def node_status(facts: NodeFacts, before: Object, now: str) -> Object:
    """The status of the node. ``before`` is the one that the API has, for the times of the conditions."""
    machine = facts.machine
    in_use = {"volumesInUse": list(facts.volumes_in_use)} if facts.volumes_in_use or before.get("volumesInUse") else {}
    return {
        **in_use,
        "addresses": _addresses(facts, before),
        "allocatable": _void(facts, before.get("allocatable")) | allocatable(facts),
        "capacity": _void(facts, before.get("capacity")) | capacity(facts),
        "conditions": conditions(facts, before.get("conditions") or [], now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
        "images": sorted(facts.images, key=lambda image: -int(image.get("sizeBytes") or 0))[: _most(facts)],
        "nodeInfo": {
            "architecture": machine.architecture,
            "bootID": machine.boot_id,
            "containerRuntimeVersion": facts.runtime_version,
            "kernelVersion": machine.kernel_version,
            "kubeProxyVersion": "",
            "kubeletVersion": git_version(),
            "machineID": machine.machine_id,
            "operatingSystem": "linux",
            "osImage": machine.os_image,
            "systemUUID": machine.system_uuid,
            **({"swap": {"capacity": machine.swap}} if machine.swap else {}),
        },
    }


def _addresses(facts: NodeFacts, before: Object) -> list[Object]:
    if facts.external_cloud and (given := before.get("addresses")):
        return list(given)
    return [{"type": kind, "address": address} for kind, address in facts.addresses]


def _void(facts: NodeFacts, before: Mapping[str, str] | None) -> dict[str, str]:
    """Extended resources that the Node has and nobody offers any more."""
    return {name: "0" for name in before or () if facts.forgets_devices and is_extended(name)}


def conditions(facts: NodeFacts, before: Sequence[Object], now: str) -> list[Object]:
    """The node's conditions with heartbeat and transition times (RFC 3339); foreign ones come first, unchanged."""
    wanted = [
        _pressure(
            "MemoryPressure",
            pressed=facts.memory_pressure,
            what="Memory",
            well="kubelet has sufficient memory available",
            ill="kubelet has insufficient memory available",
        ),
        _pressure(
            "DiskPressure",
            pressed=facts.disk_pressure,
            what="Disk",
            well="kubelet has no disk pressure",
            ill="kubelet has disk pressure",
        ),
        _pressure(
            "PIDPressure",
            pressed=facts.pid_pressure,
            what="PID",
            well="kubelet has sufficient PID available",
            ill="kubelet has insufficient PID available",
        ),
        _ready(facts.not_ready),
    ]
    foreign = [c for c in before if c["type"] not in {w["type"] for w in wanted}]
    for condition in wanted:
        condition["lastHeartbeatTime"] = now
        old = find_condition(before, condition["type"])
        condition["lastTransitionTime"] = transition_time(old, condition["status"], now)
    return [*foreign, *wanted]


def _pressure(type_: str, what: str, well: str, ill: str, *, pressed: bool) -> Object:
    if pressed:
        reason = {"Disk": "KubeletHasDiskPressure"}.get(what, f"KubeletHasInsufficient{what}")
        return {"type": type_, "status": "True", "reason": reason, "message": ill}
    reason = {"Disk": "KubeletHasNoDiskPressure"}.get(what, f"KubeletHasSufficient{what}")
    return {"type": type_, "status": "False", "reason": reason, "message": well}


def _ready(problem: str) -> Object:
    if problem:
        return {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": problem}
    return {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
    }


def same_but_for_heartbeats(left: Object, right: Object) -> bool:
    """Whether two statuses say the same; the times of heartbeats do not count."""

    def plain(status: Object) -> Object:
        kept = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in status.get("conditions") or []]
        return {**status, "conditions": sorted(kept, key=lambda c: str(c["type"]))}

    keys = (
        "addresses",
        "allocatable",
        "capacity",
        "conditions",
        "daemonEndpoints",
        "images",
        "nodeInfo",
        "volumesInUse",
    )
    a, b = plain(left), plain(right)
    for amounts in ("allocatable", "capacity"):  # extended resources of an administrator's are none of the kubelet's
        known = a.get(amounts) or {}
        a[amounts] = {name: known[name] for name in b[amounts] if name in known}
    return all((a.get(key) or None) == (b.get(key) or None) for key in keys)


def insisted(facts: NodeFacts) -> dict[str, str]:
    """The annotation by which the cloud knows which addresses the node is to have."""
    return {PROVIDED_NODE_IP: facts.insisted_addresses} if facts.external_cloud and facts.insisted_addresses else {}


def new_node(
    facts: NodeFacts, now: str, labels: Mapping[str, str], taints: Sequence[Object], *, unschedulable: bool = False
) -> Object:
    """The Node object that a kubelet registers; a cloud takes the last taint off when it knows the node."""
    spec: Object = {}
    uninitialized = {"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}
    if all_taints := [*taints, *([uninitialized] if facts.external_cloud else ())]:
        spec["taints"] = all_taints
    if facts.provider_id:
        spec["providerID"] = facts.provider_id
    if unschedulable:
        spec["unschedulable"] = True
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": facts.name,
            "labels": default_labels(facts.name, facts.machine) | dict(labels),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"} | insisted(facts),
        },
        "spec": spec,
        "status": node_status(facts, {}, now),
    }
