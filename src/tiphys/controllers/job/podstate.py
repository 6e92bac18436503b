"""What a Job asks about its pods: finished when, failed, counted, of which index. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    annotations_of,
    condition,
    finalizers_of,
    is_deleting,
    parse_time,
    status_of,
)

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES_ANNOTATION = "batch.kubernetes.io/job-index-ignored-failure-count"


def has_finalizer(pod: Object) -> bool:
    return FINALIZER in finalizers_of(pod)


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def limits_per_index(job: Object) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def replaces_only_failed(job: Object) -> bool:
    """Whether a pod that terminates is waited for before it is replaced."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def is_failed(pod: Object, job: Object) -> bool:
    if podkit.phase_of(pod) == "Failed":
        return True
    if replaces_only_failed(job):
        return False
    return is_deleting(pod) and podkit.phase_of(pod) != "Succeeded"


def index_of(pod: Object) -> int | None:
    text = annotations_of(pod).get(INDEX_ANNOTATION, "")
    return int(text) if text.isascii() and text.isdigit() else None


def valid_index_of(pod: Object, job: Object) -> int | None:
    """The pod's index if it is below the Job's completions."""
    index = index_of(pod)
    return index if index is not None and index < int(job["spec"].get("completions") or 0) else None


def indexes_of(pods: Iterable[Object]) -> set[int]:
    return {index for pod in pods if (index := index_of(pod)) is not None}


def _count(pod: Object, annotation: str) -> int:
    text = annotations_of(pod).get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() and int(text) < 2**31 else 0


def failures_of_index(pod: Object) -> int:
    """Failures of the pod's index before it."""
    return _count(pod, FAILURES_ANNOTATION)


def ignored_failures_of_index(pod: Object) -> int:
    return _count(pod, IGNORED_FAILURES_ANNOTATION)


def finished_at(pod: Object) -> float:
    """When it ended: by its containers, else by its Ready condition, its deletion, or its creation."""
    finished = _last_container_end(pod)
    if finished is not None:
        return finished
    ready = condition(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return parse_time(ready["lastTransitionTime"]) or 0.0
    if is_deleting(pod):
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        return (parse_time(pod["metadata"]["deletionTimestamp"]) or 0.0) - grace
    return parse_time(pod["metadata"].get("creationTimestamp")) or 0.0


def _last_container_end(pod: Object) -> float | None:
    """None if a container has not ended."""
    status = status_of(pod)
    sidecars = {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}
    containers = list(status.get("containerStatuses") or ())
    containers += [c for c in status.get("initContainerStatuses") or () if c["name"] in sidecars]
    ends = []
    for container in containers:
        terminated = (container.get("state") or {}).get("terminated") or {}
        end = parse_time(terminated.get("finishedAt"))
        if end is None:
            return None
        ends.append(end)
    return max(ends, default=None)


def by_index(pod: Object) -> int:
    index = index_of(pod)
    return -1 if index is None else index
