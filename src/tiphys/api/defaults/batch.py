"""Defaults of the batch group, v1.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#job-v1-batch
"""

from __future__ import annotations

from tiphys.api.defaults.common import child, if_empty, if_missing, items
from tiphys.api.defaults.pod import pod_template
from tiphys.api.object import Object

MAX_INT32 = 2**31 - 1


def job(obj: Object) -> None:
    spec = child(obj, "spec")
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    if_missing(spec, parallelism=1)
    if_missing(spec, backoffLimit=6 if spec.get("backoffLimitPerIndex") is None else MAX_INT32)
    _labels_from_template(obj, spec)
    if_missing(spec, completionMode="NonIndexed", suspend=False, manualSelector=False)
    if_missing(spec, podReplacementPolicy="TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed")
    job_spec(spec)


def job_spec(spec: Object) -> None:
    """What the specification of a job gets inside a cron job's template as well."""
    for rule in items(spec.get("podFailurePolicy") or {}, "rules"):
        for condition in items(rule, "onPodConditions"):
            if_empty(condition, status="True")
    pod_template(child(spec, "template"))


def cron_job(obj: Object) -> None:
    spec = child(obj, "spec")
    if_empty(spec, concurrencyPolicy="Allow")
    if_missing(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job_spec(child(child(spec, "jobTemplate"), "spec"))


def _labels_from_template(obj: Object, spec: Object) -> None:
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels is None:
        return
    metadata = child(obj, "metadata")
    if not metadata.get("labels"):
        # The same dict: what the server adds to the template's labels shows in the job's as well.
        metadata["labels"] = labels
