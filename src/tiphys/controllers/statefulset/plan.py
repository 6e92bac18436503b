"""What to do next for a StatefulSet: pure decisions.

With ordered management one thing is done at a time and then waited for; with parallel management all at once. Source:
https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#deployment-and-scaling-guarantees
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    generation_of,
    is_deleting,
    name_of,
    status_of,
)
from tiphys.controllers.statefulset import identity


def is_parallel(stateful_set: Object) -> bool:
    return bool(stateful_set["spec"].get("podManagementPolicy") == "Parallel")


def min_ready(stateful_set: Object) -> int:
    return int(stateful_set["spec"].get("minReadySeconds") or 0)


@dataclass(slots=True)
class Layout:
    """The set's pods: ``replicas`` by ordinal (those that are missing are planned), ``condemned`` highest first."""

    replicas: list[Object] = field(default_factory=list)
    condemned: list[Object] = field(default_factory=list)


def lay_out(
    stateful_set: Object, current: Object, update: Object, revisions: tuple[str, str], pods: Iterable[Object]
) -> Layout:
    """``current`` and ``update`` are the set with the template of each of the two ``revisions``."""
    start, count = identity.start_ordinal(stateful_set), identity.replicas_of(stateful_set)
    by_ordinal: dict[int, Object] = {}
    condemned = []
    for pod in pods:
        if identity.in_range(pod, stateful_set):
            by_ordinal[identity.ordinal_of(pod)] = pod
        elif identity.ordinal_of(pod) >= 0:
            condemned.append(pod)
    replicas = [
        by_ordinal.get(ordinal) or identity.planned_pod(current, update, *revisions, ordinal)
        for ordinal in range(start, start + count)
    ]
    return Layout(replicas, sorted(condemned, key=identity.ordinal_of, reverse=True))


def first_unavailable(stateful_set: Object, layout: Layout, now: float) -> Object | None:
    for pod in [*layout.replicas, *reversed(layout.condemned)]:
        if identity.is_unavailable(pod, min_ready(stateful_set), now):
            return pod
    return None


# Status


def counts(stateful_set: Object, revisions: tuple[str, str], pods: Iterable[Object], now: float) -> dict[str, int]:
    """The numbers of the status, from pods of which some may be only planned."""
    current, update = revisions
    totals = dict.fromkeys(("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"), 0)
    for pod in pods:
        if not identity.is_created(pod):
            continue
        totals["replicas"] += 1
        if identity.is_running_and_ready(pod):
            totals["readyReplicas"] += 1
            totals["availableReplicas"] += podkit.is_available(pod, min_ready(stateful_set), now)
        if not is_deleting(pod):
            totals["currentReplicas"] += identity.revision_of(pod) == current
            totals["updatedReplicas"] += identity.revision_of(pod) == update
    return totals


def status_for(
    stateful_set: Object, numbers: dict[str, int], revisions: tuple[str, str], collision_count: int
) -> Object:
    """The status to write; a rolling update that is complete makes the update revision the current one."""
    current, update = revisions
    numbers = dict(numbers)
    desired = identity.replicas_of(stateful_set)
    rolling = (stateful_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    if rolling and numbers["updatedReplicas"] == numbers["readyReplicas"] == numbers["replicas"] == desired:
        numbers["currentReplicas"], current = numbers["updatedReplicas"], update
    status: Object = {"observedGeneration": generation_of(stateful_set), "currentRevision": current}
    status |= {"updateRevision": update, "collisionCount": collision_count}
    status |= {field: number for field, number in numbers.items() if number}
    # these two are always on the wire
    status |= {"replicas": numbers["replicas"], "availableReplicas": numbers["availableReplicas"]}
    if status_of(stateful_set).get("conditions"):
        status["conditions"] = status_of(stateful_set)["conditions"]
    return status


_COMPARED = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "currentRevision",
    "updateRevision",
)


def is_stale(stateful_set: Object, status: Object) -> bool:
    have = status_of(stateful_set)
    if (status.get("observedGeneration") or 0) > (have.get("observedGeneration") or 0):
        return True
    return any((status.get(field) or 0) != (have.get(field) or 0) for field in _COMPARED)


# Scaling down and updating


def may_remove(stateful_set: Object, pod: Object, first_unhealthy: Object | None, now: float) -> tuple[bool, bool]:
    """For a condemned pod: whether to delete it now, and whether (in order) to wait before the next."""
    ordered = not is_parallel(stateful_set)
    if is_deleting(pod):
        return False, ordered
    if ordered and pod is not first_unhealthy:
        available = podkit.is_available(pod, min_ready(stateful_set), now)
        if not identity.is_running_and_ready(pod) or not available:
            return False, True
    return True, ordered


def to_update(stateful_set: Object, replicas: Sequence[Object], update_revision: str, now: float) -> Object | None:
    """The pod to delete next in a rolling update: from the highest ordinal down to the partition."""
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return None
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    for pod in reversed(replicas[partition:]):
        if identity.revision_of(pod) != update_revision and not is_deleting(pod):
            return pod
        if identity.is_unavailable(pod, min_ready(stateful_set), now):
            return None
    return None


def to_forget(
    stateful_set: Object, revisions: Sequence[Object], pods: Iterable[Object], current: str, update: str
) -> list[Object]:
    """Revisions that neither a pod nor the set has, oldest first, beyond ``revisionHistoryLimit``."""
    live = {current, update, *(identity.revision_of(pod) for pod in pods)}
    dead = [revision for revision in revisions if name_of(revision) not in live]
    limit = stateful_set["spec"].get("revisionHistoryLimit")
    return dead[: max(len(dead) - (10 if limit is None else int(limit)), 0)]
