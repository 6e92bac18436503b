"""GET /stats/summary: what the node and its pods use, as the metrics server and `kubectl top` read it. Pure.

Consumers in Go follow the pointers in it without looking: every figure is there that a node of this kind has.
Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1 (the Summary type).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tiphys.api.object import Object
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.node.measures import Machine, Pressure, Pressures, Use
from tiphys.kubelet.node.storage import DiskUse, Filesystem
from tiphys.kubelet.node.storage_limits import ephemeral_use
from tiphys.kubelet.runtime.service import ContainerStats, InterfaceStats
from tiphys.kubelet.server.snapshot import RunningContainer, RunningPod, Snapshot, SystemContainer
from tiphys.kubelet.volumes.csi.figures import ClaimUse


def summary(snapshot: Snapshot) -> Object:
    return {"node": _node(snapshot), "pods": [_pod(pod, snapshot) for pod in snapshot.pods]}


def _node(snapshot: Snapshot) -> Object:
    """The node's part of the summary API."""
    machine, now = snapshot.machine, timestamp(snapshot.now)
    disk, image = snapshot.disk, snapshot.image_disk
    layers = sum(c.stats.filesystem_used for pod in snapshot.pods for c in pod.containers)
    inodes = sum(c.stats.filesystem_inodes for pod in snapshot.pods for c in pod.containers)
    node: Object = {
        "nodeName": snapshot.node_name,
        "systemContainers": [_system(container, machine, now) for container in snapshot.system],
        "startTime": timestamp(machine.booted_at),
        "cpu": _cpu(now, machine.use.cpu_ns, snapshot.machine_nano_cores),
        "memory": _memory(now, machine.use, machine.memory_capacity),
        "network": _network(now, _with_default_first(machine.interfaces, machine.default_interface)),
        "fs": _disk(now, disk, DiskUse(disk.capacity - disk.available, disk.inodes - disk.inodes_free)),
        "runtime": {
            "imageFs": _disk(now, image, DiskUse(snapshot.image_bytes, snapshot.image_inodes)),
            "containerFs": _disk(now, snapshot.container_disk, DiskUse(layers, inodes)),
        },
        "rlimit": {"time": now, "maxpid": machine.max_pid, "curproc": machine.processes},
        "swap": _swap(now, machine.use.swap, machine.swap_total - machine.use.swap),
    }
    return _with_pressure(node, now, machine.pressure)


def _with_pressure(stats: Object, time: str, pressures: Pressures) -> Object:
    """``stats`` with how long tasks waited: beside the figures of each resource, and ``io`` for that alone."""
    for resource, (some, full) in pressures.items():
        stats.setdefault(resource, {"time": time})["psi"] = {"full": _pressure(full), "some": _pressure(some)}
    return stats


def _pressure(pressure: Pressure) -> Object:
    return {"total": pressure.total, "avg10": pressure.avg10, "avg60": pressure.avg60, "avg300": pressure.avg300}


def _system(container: SystemContainer, machine: Machine, now: str) -> Object:
    stats = {
        "name": container.name,
        "startTime": timestamp(container.started_at),
        "cpu": _cpu(now, container.use.cpu_ns, container.nano_cores),
        "memory": _memory(now, container.use, container.use.limit or machine.memory_capacity),
        "swap": _swap(now, container.use.swap, machine.swap_total - machine.use.swap),
    }
    return _with_pressure(stats, now, container.pressure)


def _cpu(time: str, counter_ns: int, nano_cores: int) -> Object:
    return {"time": time, "usageNanoCores": nano_cores, "usageCoreNanoSeconds": counter_ns}


def _memory(time: str, use: Use, capacity: int) -> Object:
    return {
        "time": time,
        "availableBytes": max(0, capacity - use.working_set),
        "usageBytes": use.memory_usage,
        "workingSetBytes": use.working_set,
        "rssBytes": use.rss,
        "pageFaults": use.page_faults,
        "majorPageFaults": use.major_page_faults,
    }


def _swap(time: str, usage: int, available: int) -> Object:
    return {"time": time, "swapAvailableBytes": max(0, available), "swapUsageBytes": usage}


def _disk(time: str, filesystem: Filesystem, use: DiskUse) -> Object:
    return {
        "time": time,
        "availableBytes": filesystem.available,
        "capacityBytes": filesystem.capacity,
        "usedBytes": use.bytes,
        "inodesFree": filesystem.inodes_free,
        "inodes": filesystem.inodes,
        "inodesUsed": use.inodes,
    }


def _interface(interface: InterfaceStats) -> Object:
    return {
        "name": interface.name,
        "rxBytes": interface.rx_bytes,
        "rxErrors": interface.rx_errors,
        "txBytes": interface.tx_bytes,
        "txErrors": interface.tx_errors,
    }


def _with_default_first(interfaces: Iterable[InterfaceStats], default: str) -> list[InterfaceStats]:
    return sorted(interfaces, key=lambda one: one.name != default)


def _network(time: str, interfaces: Sequence[InterfaceStats]) -> Object:
    """The first interface is the one that packets to the outside take."""
    each = {one.name: _interface(one) for one in reversed(interfaces)}
    first = interfaces[0] if interfaces else InterfaceStats("")
    return {"time": time, **_interface(first), "interfaces": list(each.values())}


def _pod(running: RunningPod, snapshot: Snapshot) -> Object:
    """A pod's part of the summary API."""
    now = timestamp(snapshot.now)
    containers, sandbox = running.containers, running.sandbox
    stats: Object = {
        "podRef": {"name": sandbox.name, "namespace": sandbox.namespace, "uid": sandbox.uid},
        "startTime": timestamp(sandbox.created_at),
        "containers": [_container(container, running, snapshot) for container in containers],
        "cpu": _cpu(now, sum(c.stats.cpu_ns for c in containers), sum(c.nano_cores for c in containers)),
        "memory": _memory(now, _together(c.stats for c in containers), snapshot.machine.memory_capacity),
        "volume": [
            {**_disk(now, volume.filesystem, volume.use), "name": name}
            for name, volume in sorted(running.storage.volumes.items())
        ]
        + [_claim(now, each) for each in running.claims],
        "process_stats": {"process_count": running.stats.processes},
        "swap": _swap(
            now, sum(c.stats.swap_usage for c in containers), sum(c.stats.swap_available for c in containers)
        ),
    }
    if not sandbox.host_network:
        stats["network"] = _network(now, running.stats.interfaces)
    if running.pod is not None:
        layers = {c.name: DiskUse(c.stats.filesystem_used, c.stats.filesystem_inodes) for c in containers}
        stats["ephemeral-storage"] = _disk(now, snapshot.disk, ephemeral_use(running.pod, running.storage, layers))
    return _with_pressure(stats, now, running.pressure)


def _claim(now: str, each: ClaimUse) -> Object:
    stats: Object = {**_disk(now, each.use.filesystem, each.use.use), "name": each.of.volume_name}
    if each.of.claim is not None:
        stats["pvcRef"] = {"name": each.of.claim[1], "namespace": each.of.claim[0]}
    return stats


def _together(stats: Iterable[ContainerStats]) -> Use:
    each = [_use(one) for one in stats]
    return Use(
        cpu_ns=sum(one.cpu_ns for one in each),
        memory_usage=sum(one.memory_usage for one in each),
        working_set=sum(one.working_set for one in each),
        rss=sum(one.rss for one in each),
        page_faults=sum(one.page_faults for one in each),
        major_page_faults=sum(one.major_page_faults for one in each),
    )


def _use(stats: ContainerStats) -> Use:
    return Use(
        cpu_ns=stats.cpu_ns,
        memory_usage=stats.memory_usage,
        working_set=stats.memory_working_set,
        rss=stats.memory_rss,
        page_faults=stats.page_faults,
        major_page_faults=stats.major_page_faults,
    )


def _container(running: RunningContainer, pod: RunningPod, snapshot: Snapshot) -> Object:
    stats, moment = running.stats, timestamp(running.stats.timestamp)
    layer = DiskUse(stats.filesystem_used, stats.filesystem_inodes)
    figures = {
        "name": running.name,
        "startTime": timestamp(running.container.created_at),
        "cpu": _cpu(moment, stats.cpu_ns, running.nano_cores),
        "memory": _memory(moment, _use(stats), snapshot.machine.memory_capacity),
        "rootfs": _disk(moment, snapshot.container_disk, layer),
        "logs": _disk(moment, snapshot.disk, pod.storage.logs.get(running.name, DiskUse())),
        "swap": _swap(moment, stats.swap_usage, stats.swap_available),
    }
    return _with_pressure(figures, moment, running.pressure)
