"""Whether a node lives: pure decisions from its status, its Lease and when either last changed.

Clocks of machines differ, so a heartbeat counts from when this controller saw it change, by its own clock. Source:
https://kubernetes.io/docs/concepts/architecture/nodes/#node-heartbeats
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tiphys.api.object import Object
from tiphys.api.scheduling.taints import NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE
from tiphys.controlkit.objects import (
    condition,
    copy,
    find_condition,
    labels_of,
    parse_time,
    timestamp,
)
from tiphys.controllers.nodes.taints import Taint

CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

_TAINTS = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_MANAGED = frozenset((*_TAINTS.values(), UNSCHEDULABLE))


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What is known of one node's heartbeats. Times are this controller's, in seconds."""

    probed: float
    transition: float
    heartbeat: tuple[str, str] | None
    """Last heartbeat and last transition time of the Ready condition when it was last looked at."""
    renewed: float | None = None
    """The Lease's renew time when it was last looked at."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``observed`` and ``current`` are the Ready condition's status before and after; ``status`` is to be written."""

    health: NodeHealth
    observed: str
    current: str | None
    status: Object | None


def judge(
    health: NodeHealth | None, node: Object, lease: Object | None, now: float, grace: float, startup_grace: float
) -> Judgement:
    """Look at a node once."""
    ready = condition(node, "Ready")
    created = parse_time(node["metadata"].get("creationTimestamp")) or now
    health = _noted(health, ready, created, now)
    renewed = parse_time(((lease or {}).get("spec") or {}).get("renewTime"))
    if renewed is not None and (health.renewed is None or renewed > health.renewed):
        health = replace(health, renewed=renewed, probed=now)
    limit = grace if ready is not None else startup_grace
    observed = ready["status"] if ready is not None else "Unknown"
    current = ready["status"] if ready is not None else None
    if now <= health.probed + limit:
        return Judgement(health, observed, current, None)
    status = _unknown_status(node, now)
    if ready == condition({"status": status}, "Ready"):
        return Judgement(health, observed, "Unknown", None)
    return Judgement(replace(health, transition=now), observed, "Unknown", status)


def _noted(health: NodeHealth | None, ready: Object | None, created: float, now: float) -> NodeHealth:
    if ready is None:
        if health is None:
            return NodeHealth(created, created, None)
        return health if health.heartbeat is None else NodeHealth(now, now, None, health.renewed)
    heartbeat = (ready.get("lastHeartbeatTime") or "", ready.get("lastTransitionTime") or "")
    if health is None or health.heartbeat is None:
        return NodeHealth(now, now, heartbeat)
    if heartbeat[0] != health.heartbeat[0]:
        moved = heartbeat[1] != health.heartbeat[1]
        return NodeHealth(now, now if moved else health.transition, heartbeat, health.renewed)
    return health


def _unknown_status(node: Object, now: float) -> Object:
    """The status of a node of which nothing is heard."""
    status: Object = copy(node.get("status") or {})
    conditions = status.setdefault("conditions", [])
    for type_ in CONDITIONS:
        condition = find_condition(conditions, type_)
        if condition is None:
            conditions.append(
                {
                    "type": type_,
                    "status": "Unknown",
                    "lastHeartbeatTime": node["metadata"].get("creationTimestamp"),
                    "lastTransitionTime": timestamp(now),
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
        elif condition["status"] != "Unknown":
            condition |= {
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": timestamp(now),
            }
    return status


# Taints and labels


def no_schedule_changes(node: Object) -> tuple[list[Taint], list[Taint]]:
    """NoSchedule taints to add and to remove, by the node's conditions."""
    wanted = [
        (key, NO_SCHEDULE)
        for condition in (node.get("status") or {}).get("conditions") or ()
        if (key := _TAINTS.get((condition["type"], condition["status"])))
    ]
    if node["spec"].get("unschedulable"):
        wanted.append((UNSCHEDULABLE, NO_SCHEDULE))
    present = [
        (taint["key"], NO_SCHEDULE)
        for taint in node["spec"].get("taints") or ()
        if taint["effect"] == NO_SCHEDULE and taint["key"] in _MANAGED
    ]
    return [taint for taint in wanted if taint not in present], [taint for taint in present if taint not in wanted]


def label_changes(node: Object) -> dict[str, str]:
    """The labels of old names, that must say what those of today say."""
    labels = labels_of(node)
    changes = {}
    for new, old in (("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")):
        if new in labels and labels.get(old) != labels[new]:
            changes[old] = labels[new]
    return changes


# Zones


class ZoneState(enum.Enum):
    INITIAL = "Initial"
    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


def zone_of(node: Object) -> str:
    labels = labels_of(node)
    zone = labels.get("failure-domain.beta.kubernetes.io/zone", labels.get("topology.kubernetes.io/zone", ""))
    region = labels.get("failure-domain.beta.kubernetes.io/region", labels.get("topology.kubernetes.io/region", ""))
    return f"{region}:\x00:{zone}" if region or zone else ""


def zone_state(ready: Iterable[bool], threshold: float) -> ZoneState:
    """The state of a zone whose nodes are ready or not."""
    flags = list(ready)
    unready = flags.count(False)
    if flags and unready == len(flags):
        return ZoneState.FULL
    if unready > 2 and unready / len(flags) >= threshold:
        return ZoneState.PARTIAL
    return ZoneState.NORMAL


def eviction_rate(state: ZoneState, size: int, rate: float, secondary: float, large: int) -> float:
    """Nodes a second that may be tainted in a zone; few if many fail, as then more likely the network does."""
    if state is ZoneState.PARTIAL:
        return secondary if size > large else 0.0
    return rate
