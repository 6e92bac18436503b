"""The pods that a Job creates. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    controller_reference,
    name_of,
)
from tiphys.controlkit.podcontrol import pod_from_template
from tiphys.controllers.job.podstate import (
    FAILURES_ANNOTATION,
    FINALIZER,
    IGNORED_FAILURES_ANNOTATION,
    INDEX_ANNOTATION,
    is_indexed,
    limits_per_index,
)
from tiphys.controllers.job.policies import next_failure_counts

INDEX_ENV = "JOB_COMPLETION_INDEX"
MAX_PREFIX = 58
"""Characters that a generated name's prefix may have."""


def new_pod(job: Object, index: int | None, replaced: Object | None) -> Object:
    """The pod to create for an index (or for none); ``replaced`` is the failed pod that it takes the place of."""
    pod = pod_from_template(job["spec"]["template"], job, controller_reference(job, "batch/v1", "Job"))
    meta, spec = pod["metadata"], pod["spec"]
    finalizers = meta.setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    if not is_indexed(job) or index is None:
        return pod
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        _add_index_variable(container)
    annotations = meta.setdefault("annotations", {})
    annotations[INDEX_ANNOTATION] = meta["labels"][INDEX_ANNOTATION] = str(index)
    spec["hostname"] = f"{name_of(job)}-{index}"
    meta["generateName"] = name_prefix(name_of(job), index)
    if limits_per_index(job):
        counted, ignored = next_failure_counts(job, replaced)
        annotations[FAILURES_ANNOTATION] = str(counted)
        if ignored:
            annotations[IGNORED_FAILURES_ANNOTATION] = str(ignored)
    return pod


def _add_index_variable(container: Object) -> None:
    env = container.setdefault("env", [])
    if all(variable["name"] != INDEX_ENV for variable in env):
        path = f"metadata.labels['{INDEX_ANNOTATION}']"
        env.append({"name": INDEX_ENV, "valueFrom": {"fieldRef": {"fieldPath": path}}})


def name_prefix(job: str, index: int) -> str:
    suffix = f"-{index}-"
    return job + suffix if len(job) + len(suffix) <= MAX_PREFIX else job[: MAX_PREFIX - len(suffix)] + suffix
