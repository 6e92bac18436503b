"""How much a cgroup may use, and how the kernel's two versions of cgroups and systemd hear of it. Pure.

Source: the kernel's cgroup-v1 and cgroup-v2 documents, systemd.resource-control(5), and KEP-2254, which converts
shares of version 1 into weights of version 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tiphys.api.pods import resources as pod_resources
from tiphys.api.pods.qos import BEST_EFFORT, BURSTABLE, qos_of
from tiphys.api.pods.resources import whole
from tiphys.kubelet.container.resources import MAX_SHARES, MIN_SHARES, QUOTA_PERIOD, quota, shares
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.quantities import milli, value

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """0 leaves a limit as it is. ``quota`` is microseconds in each ``period`` of as many, ``memory`` bytes."""

    shares: int = 0
    quota: int = 0
    memory: int = 0
    pids: int = 0
    period: int = QUOTA_PERIOD


def pod_limits(pod: Pod, period: int = QUOTA_PERIOD) -> CgroupLimits:
    """Those of the whole pod: it has none of a kind if one of its containers has none. ``period`` 0: processors have no
    limits."""
    if qos_of(pod) == BEST_EFFORT:
        return CgroupLimits(MIN_SHARES)
    requests = whole(pod_resources.pod_requests(pod))
    each: list[pod_resources.Amounts] = []
    limits = whole(pod_resources.pod_limits(pod, each=each.append))
    pod_level = pod_resources.amounts((pod["spec"].get("resources") or {}).get("limits"))

    def limited(name: str) -> int:
        everywhere = pod_level.get(name) or all(container.get(name) for container in each)
        return limits.get(name, 0) if everywhere else 0

    processor = CgroupLimits(shares(requests.get("cpu", 0)), memory=limited("memory"))
    return replace(processor, quota=quota(limited("cpu"), period), period=period) if period else processor


def total_limits(cpus: int, memory: int, processes: int, reserved: Mapping[str, str]) -> CgroupLimits:
    """What all pods may use together: what the machine has, without what is ``reserved`` for the system."""
    return CgroupLimits(
        shares(max(0, cpus * 1000 - milli(reserved.get("cpu")))),
        memory=max(0, memory - value(reserved.get("memory"))),
        pids=max(0, processes - value(reserved.get("pid"))),
    )


def burstable_shares(pods: Iterable[Pod]) -> int:
    """What the pods of that class have together, beside the guaranteed ones."""
    return shares(sum(whole(pod_resources.pod_requests(pod)).get("cpu", 0) for pod in pods if qos_of(pod) == BURSTABLE))


def weight(cpu_shares: int) -> int:
    """cpu.weight, 1 to 10000, for cpu.shares, 2 to 262144."""
    return 1 + (min(cpu_shares, MAX_SHARES) - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


def version_1(limits: CgroupLimits) -> dict[str, str]:
    """By file, in the order in which they are written."""
    values = {"cpu.shares": limits.shares}
    if limits.quota:
        values |= {"cpu.cfs_period_us": limits.period, "cpu.cfs_quota_us": limits.quota}
    values |= {"memory.limit_in_bytes": _pages(limits.memory), "pids.max": limits.pids}
    return {name: str(value) for name, value in values.items() if value}


def version_2(limits: CgroupLimits) -> dict[str, str]:
    """By file."""
    values: dict[str, int | str] = {"cpu.weight": weight(limits.shares) if limits.shares else 0}
    values["cpu.max"] = f"{limits.quota} {limits.period}" if limits.quota else 0
    values |= {"memory.max": _pages(limits.memory), "pids.max": limits.pids}
    return {name: str(value) for name, value in values.items() if value}


def _pages(size: int) -> int:
    """As the kernel counts memory, so that what it shows is what was written."""
    return max(size - size % _PAGE, _PAGE) if size else 0


def for_systemd(limits: CgroupLimits) -> CgroupLimits:
    """As systemd can keep them: it writes a quota down in whole percents of a processor, so upwards to the next one."""
    percent = limits.period // 100
    return replace(limits, quota=-(-limits.quota // percent) * percent)


def properties(limits: CgroupLimits, *, unified: bool) -> list[tuple[str, str, int]]:
    """(name, D-Bus type, value) of each property of a systemd unit. Their names differ by the version of cgroups."""
    processor = ("CPUWeight", weight(limits.shares)) if unified else ("CPUShares", limits.shares)
    quota_a_second = limits.quota * 1_000_000 // limits.period
    named = [
        *([processor] if limits.shares else []),
        ("CPUQuotaPerSecUSec", quota_a_second),
        ("CPUQuotaPeriodUSec", limits.period if limits.quota and limits.period != QUOTA_PERIOD else 0),
        ("MemoryMax" if unified else "MemoryLimit", limits.memory),
        ("TasksMax", limits.pids),
    ]
    return [(name, "t", value) for name, value in named if value]
