"""Requests and limits as the runtime takes them: processor shares and quota, bytes, huge pages, OOM score. Pure.

Source: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/ and the kernel's
cgroup-v1/memory and cpu documents.
"""

from __future__ import annotations

from typing import Any

from tiphys.kubelet.container.swap import SwapControl, swap_resources
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.pod.qos import oom_score_adjust
from tiphys.kubelet.quantities import milli, value

QUOTA_PERIOD = 100_000
"""Microseconds over which a processor limit is counted."""
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000


def shares(milli_cpu: int) -> int:
    """cgroup cpu.shares for a request: 1024 for one processor."""
    return max(MIN_SHARES, min(milli_cpu * 1024 // 1000, MAX_SHARES)) if milli_cpu else MIN_SHARES


def quota(milli_cpu: int, period: int = QUOTA_PERIOD) -> int:
    """Microseconds of processor time in each period for a limit; 0 for none."""
    return max(milli_cpu * period // 1000, MIN_QUOTA) if milli_cpu else 0


def linux_resources(
    pod: Pod,
    container: ContainerSpec,
    memory_capacity: int,
    *,
    period: int = QUOTA_PERIOD,
    swap: SwapControl | None = None,
) -> dict[str, Any]:
    """``LinuxContainerResources`` of a container. ``period`` in microseconds; 0: processor limits are not enforced."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    pod_limits = (pod["spec"].get("resources") or {}).get("limits") or {}
    cpu_limit = limits.get("cpu") or pod_limits.get("cpu")
    linux: dict[str, Any] = {
        "cpu_shares": shares(milli(requests.get("cpu", cpu_limit))),
        "oom_score_adj": oom_score_adjust(pod, container, memory_capacity),
    }
    if memory := value(limits.get("memory") or pod_limits.get("memory")):
        linux["memory_limit_in_bytes"] = memory
    if swap is not None:
        linux |= swap_resources(swap, pod, container, memory)
    if period:
        linux["cpu_period"] = period
        linux["cpu_quota"] = quota(milli(cpu_limit), period)
    pages = [
        {"page_size": _page_size(name.removeprefix("hugepages-")), "limit": value(limit)}
        for name, limit in limits.items()
        if name.startswith("hugepages-")
    ]
    if pages:
        linux["hugepage_limits"] = pages
    return linux


def _page_size(text: str) -> str:
    """The kernel's name of a page size: ``2Mi`` is ``2MB``."""
    size, units = value(text), ["B", "KB", "MB", "GB", "TB"]
    while size >= 1024 and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        units.pop(0)
    return f"{size}{units[0]}"
