"""GET /stats/summary: what the node and its pods use, as the metrics server and `kubectl top` read it.

Source: k8s.io/kubelet/pkg/apis/stats/v1alpha1 (the Summary type).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiphys.controlkit.objects import timestamp
from tiphys.kubelet import labels
from tiphys.kubelet.node import machine
from tiphys.kubelet.runtime.service import ContainerStats, SandboxStats

if TYPE_CHECKING:
    from tiphys.kubelet.server.node import Node

Object = dict[str, Any]


async def summary(kubelet: Node) -> Object:
    """The Summary. Raises ``RuntimeFailure``."""
    containers = await kubelet.runtime.list_container_stats()
    sandboxes = {s.labels.get(labels.POD_UID, ""): s for s in await kubelet.runtime.list_sandbox_stats()}
    by_pod: dict[str, list[ContainerStats]] = {}
    for container in containers:
        by_pod.setdefault(container.labels.get(labels.POD_UID, ""), []).append(container)
    now = timestamp(kubelet.clock.now())
    return {
        "node": node_stats(kubelet, now),
        "pods": [_pod_stats(uid, found, sandboxes.get(uid), now) for uid, found in by_pod.items() if uid],
    }


def node_stats(kubelet: Node, now: str) -> Object:
    total, available = machine.memory_total(), machine.memory_available()
    place = next(path for path in (kubelet.config.root, *kubelet.config.root.parents) if path.exists())
    disk = shutil.disk_usage(place)
    file_system = {
        "time": now,
        "availableBytes": disk.free,
        "capacityBytes": disk.total,
        "usedBytes": disk.used,
    }
    return {
        "nodeName": kubelet.config.node_name,
        "startTime": timestamp(kubelet.clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME)),
        "cpu": {"time": now, "usageCoreNanoSeconds": machine_cpu_ns()},
        "memory": {
            "time": now,
            "availableBytes": available,
            "usageBytes": total - available,
            "workingSetBytes": total - available,
        },
        "fs": file_system,
        "runtime": {"imageFs": file_system, "containerFs": file_system},
    }


def machine_cpu_ns() -> int:
    """Processor time that the machine has spent on anything but waiting, in nanoseconds."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft, *rest = (int(word) for word in words)
    steal = rest[0] if rest else 0
    return (user + nice + system + irq + soft + steal) * 10_000_000


def _pod_stats(uid: str, containers: list[ContainerStats], sandbox: SandboxStats | None, now: str) -> Object:
    first = containers[0].labels
    found: Object = {
        "podRef": {
            "name": first.get(labels.POD_NAME, ""),
            "namespace": first.get(labels.POD_NAMESPACE, ""),
            "uid": uid,
        },
        "startTime": now,
        "containers": [_container_stats(container) for container in containers],
        "cpu": {
            "time": now,
            "usageNanoCores": sum(c.cpu_nano_cores for c in containers),
            "usageCoreNanoSeconds": sum(c.cpu_ns for c in containers),
        },
        "memory": {
            "time": now,
            "usageBytes": sum(c.memory_usage for c in containers),
            "workingSetBytes": sum(c.memory_working_set for c in containers),
            "rssBytes": sum(c.memory_rss for c in containers),
        },
    }
    if sandbox is not None:
        interface = {
            "name": "eth0",
            "rxBytes": sandbox.rx_bytes,
            "rxErrors": sandbox.rx_errors,
            "txBytes": sandbox.tx_bytes,
            "txErrors": sandbox.tx_errors,
        }
        found["network"] = {"time": now, **interface, "interfaces": [interface]}
        found["process_stats"] = {"process_count": sandbox.processes}
    return found


def _container_stats(container: ContainerStats) -> Object:
    moment = timestamp(container.timestamp)
    return {
        "name": container.labels.get(labels.CONTAINER_NAME, container.name),
        "startTime": moment,
        "cpu": {
            "time": moment,
            "usageNanoCores": container.cpu_nano_cores,
            "usageCoreNanoSeconds": container.cpu_ns,
        },
        "memory": {
            "time": moment,
            "usageBytes": container.memory_usage,
            "workingSetBytes": container.memory_working_set,
            "rssBytes": container.memory_rss,
            "pageFaults": container.page_faults,
            "majorPageFaults": container.major_page_faults,
        },
        "rootfs": {
            "time": moment,
            "usedBytes": container.filesystem_used,
            "inodesUsed": container.filesystem_inodes,
        },
    }
