"""Whether the node takes a pod that was bound to it: what the scheduler should have seen, checked again. Pure.

A pod that is not taken fails for good, with the reason in its status (OutOfcpu, NodeAffinity, …). Source:
https://kubernetes.io/docs/concepts/scheduling-eviction/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.api.pods.hostports import collides, host_ports
from tiphys.api.pods.qos import BEST_EFFORT, qos_of
from tiphys.api.pods.resources import pod_requests, whole
from tiphys.api.scheduling.nodeselector import takes_node
from tiphys.api.scheduling.taints import (
    EVICTING,
    MEMORY_PRESSURE,
    NO_SCHEDULE,
    Taint,
    taints_of,
    tolerates,
    tolerations_of,
    untolerated,
)
from tiphys.kubelet.container.runtime_config import dotted_sysctl
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.pods import ContainerKind, ContainerSpec, Pod
from tiphys.kubelet.quantities import milli, value

SAFE_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
"""Kernel parameters that concern one pod alone; any pod may set them."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """``shortage`` is what the node lacks, by resource, if that is why; empty otherwise."""

    reason: str
    message: str
    shortage: Mapping[str, int] = field(default_factory=dict)


def admit(
    pod: Pod, node: Object, others: Sequence[Pod], *, apparmor: bool, unsafe_sysctls: Sequence[str] = ()
) -> Rejection | None:
    """Why the node cannot take ``pod`` beside ``others``, or None if it can.

    ``unsafe_sysctls`` are allowed beside the safe ones; a name may end in ``*``. Room can be made for a critical pod:
    a shortage of resources is reported only if nothing else is in the way.
    """
    short, critical = _resources(pod, node, others), pods.is_critical(pod)
    return (
        _operating_system(pod, node)
        or (None if critical else short)
        or _node_affinity(pod, node)
        or _node_name(pod, node)
        or _ports(pod, others)
        or _taints(pod, node)
        or _sysctls(pod, unsafe_sysctls)
        or _apparmor(pod, enabled=apparmor)
        or short
    )


def _operating_system(pod: Pod, node: Object) -> Rejection | None:
    wanted = (pod["metadata"].get("labels") or {}).get("kubernetes.io/os")
    if wanted and wanted != "linux":
        message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Rejection("PodOSSelectorNodeLabelDoesNotMatch", message)
    name = (pod["spec"].get("os") or {}).get("name")
    if name and name != "linux":
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    policy = (pod["spec"].get("securityContext") or {}).get("supplementalGroupsPolicy")
    features = (node.get("status") or {}).get("features") or {}
    if policy == "Strict" and not features.get("supplementalGroupsPolicy"):
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return Rejection("SupplementalGroupsPolicyNotSupported", message)
    return None


def _resources(pod: Pod, node: Object, others: Sequence[Pod]) -> Rejection | None:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    limit = value(allocatable.get("pods"))
    shortages: list[tuple[str, int, int, int]] = []
    if len(others) + 1 > limit:
        shortages.append(("pods", 1, len(others), limit))
    used: dict[str, int] = {}
    for other in others:
        for name, amount in whole(pod_requests(other)).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in whole(pod_requests(_without_devices_of_classes(pod))).items():
        known = name in ("cpu", "memory", "ephemeral-storage")
        if amount == 0 or (not known and name not in allocatable):
            continue  # resources that no node has are the cluster's own affair
        capacity = milli(allocatable.get(name)) if name == "cpu" else value(allocatable.get(name))
        if used.get(name, 0) + amount > capacity:
            shortages.append((name, amount, used.get(name, 0), capacity))
    return _insufficient(shortages) if shortages else None


def _without_devices_of_classes(pod: Pod) -> Pod:
    """The pod without the extended resources that are devices of its special claim: nothing of them is the node's."""
    if "extendedResourceClaimStatus" not in (pod.get("status") or {}):
        return pod
    kinds = (ContainerKind.INIT.value, ContainerKind.REGULAR.value)
    spec = {**pod["spec"], **{kind: [_without(pod, each) for each in pod["spec"].get(kind) or ()] for kind in kinds}}
    return {**pod, "spec": spec}


def _without(pod: Pod, container: ContainerSpec) -> ContainerSpec:
    resources = container.get("resources") or {}
    claimed = {resource for resource, _ in pods.mapped_requests(pod, container)}
    left = {name: amount for name, amount in (resources.get("requests") or {}).items() if name not in claimed}
    return {**container, "resources": {**resources, "requests": left}}


def _insufficient(short: Sequence[tuple[str, int, int, int]]) -> Rejection:
    """The first of (resource, requested, used, capacity) is named; all of them count."""
    name, requested, used, capacity = short[0]
    return Rejection(
        f"OutOf{name}",
        f"Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}",
        {name: requested + used - capacity for name, requested, used, capacity in short},
    )


def _predicate(name: str, why: str) -> Rejection:
    return Rejection(name, f"Predicate {name} failed: {why}")


def _node_affinity(pod: Pod, node: Object) -> Rejection | None:
    if takes_node(pod["spec"], node):
        return None
    return _predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")


def _node_name(pod: Pod, node: Object) -> Rejection | None:
    wanted = pod["spec"].get("nodeName")
    if wanted and wanted != node["metadata"]["name"]:
        return _predicate("NodeName", "node(s) didn't match the requested node name")
    return None


def _ports(pod: Pod, others: Sequence[Pod]) -> Rejection | None:
    wanted = host_ports(pod["spec"])
    if wanted and any(collides(wanted, host_ports(other["spec"])) for other in others):
        return _predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _taints(pod: Pod, node: Object) -> Rejection | None:
    if pods.is_static(pod) or not untolerated(taints_of(node), tolerations_of(pod["spec"]), EVICTING):
        return None
    return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")


def _apparmor(pod: Pod, *, enabled: bool) -> Rejection | None:
    if enabled or pods.phase_of(pod) not in ("", "Pending"):
        return None
    holders = [pod["spec"], *(container for _, container in pods.all_containers(pod))]
    wanted = [((h.get("securityContext") or {}).get("appArmorProfile") or {}).get("type") for h in holders]
    if any(kind not in (None, "Unconfined") for kind in wanted):
        return Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    return None


def admit_under_pressure(pod: Pod, pressures: Sequence[str]) -> Rejection | None:
    """A node under pressure takes critical pods, and under pressure of memory alone those that requested some."""
    if not pressures or pods.is_critical(pod):
        return None
    if list(pressures) == ["MemoryPressure"]:
        taint = Taint(MEMORY_PRESSURE, "", NO_SCHEDULE)
        if qos_of(pod) != BEST_EFFORT or any(tolerates(t, taint) for t in tolerations_of(pod["spec"])):
            return None
    return Rejection("Evicted", f"The node had condition: [{' '.join(pressures)}]. ")


def _sysctls(pod: Pod, unsafe: Sequence[str]) -> Rejection | None:
    spec = pod["spec"]
    for item in (spec.get("securityContext") or {}).get("sysctls") or []:
        name = dotted_sysctl(item["name"])
        problem = ""
        if not any(
            name == known or (known.endswith("*") and name.startswith(known[:-1])) for known in (*SAFE_SYSCTLS, *unsafe)
        ):
            problem = "not allowlisted"
        elif name.startswith("net.") and spec.get("hostNetwork"):
            problem = "not allowed with host net enabled"
        elif not name.startswith("net.") and spec.get("hostIPC"):
            problem = "not allowed with host ipc enabled"
        if problem:
            return Rejection("SysctlForbidden", f'forbidden sysctl: "{name}" {problem}')
    return None
