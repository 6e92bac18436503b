"""Validation of CronJob.

Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/#cronjob-v1-batch
"""

from __future__ import annotations

import re

from tiphys.api import fielderrors as field
from tiphys.api.meta import names
from tiphys.api.object import Object
from tiphys.validation.batch.job import job_spec
from tiphys.validation.batch.schedule import schedule_problem, zone_exists
from tiphys.validation.pods.options import waivers
from tiphys.validation.pods.podoptions import TEMPLATE, PodOptions
from tiphys.validation.shared.common import (
    Errors,
    non_negative,
)
from tiphys.validation.shared.objectmeta import meta_of, validate_meta, validate_meta_update

_MAX_NAME = 52
_ZONE_PART_RE = re.compile(r"[A-Za-z.\-_0-9+]{1,14}")
_POLICIES = ("Allow", "Forbid", "Replace")


def validate_cron_job(obj: Object) -> Errors:
    errs: Errors = []
    validate_meta(errs, obj, namespaced=True)
    _spec(errs, obj.get("spec") or {}, None, TEMPLATE)
    name = meta_of(obj).get("name") or ""
    # The controller appends 11 characters to the name of each job.
    if names.byte_length(name) > _MAX_NAME:
        errs.append(field.invalid("metadata.name", name, f"must be no more than {_MAX_NAME} characters"))
    return errs


def validate_cron_job_update(new: Object, old: Object) -> Errors:
    errs: Errors = []
    validate_meta_update(errs, new, old)
    before = old.get("spec") or {}
    template = ((before.get("jobTemplate") or {}).get("spec") or {}).get("template")
    _spec(errs, new.get("spec") or {}, before, waivers(template, is_pod=False))
    return errs


def validate_cron_job_status_update(new: Object, old: Object) -> Errors:
    """The status is not checked; metadata is checked as for every kind."""
    return []


def _spec(errs: Errors, spec: Object, old: Object | None, options: PodOptions) -> None:
    schedule, zone = spec.get("schedule"), spec.get("timeZone")
    if not schedule:
        errs.append(field.required("spec.schedule"))
    else:
        _schedule(errs, schedule, zone, old)
    non_negative(errs, spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds")
    if zone is not None and (old is None or old.get("timeZone") != zone):
        _time_zone(errs, zone, "spec.timeZone")
    policy = spec.get("concurrencyPolicy")
    if policy not in _POLICIES:
        at = "spec.concurrencyPolicy"
        errs.append(field.not_supported(at, policy, _POLICIES) if policy else field.required(at))
    job, at = (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec"
    job_spec(errs, job, at, options)
    if job.get("selector") is not None:
        errs.append(field.invalid(f"{at}.selector", job["selector"], "`selector` will be auto-generated"))
    if job.get("manualSelector"):
        errs.append(field.not_supported(f"{at}.manualSelector", True, ("nil", "false")))
    non_negative(errs, spec.get("successfulJobsHistoryLimit"), "spec.successfulJobsHistoryLimit")
    non_negative(errs, spec.get("failedJobsHistoryLimit"), "spec.failedJobsHistoryLimit")


def _schedule(errs: Errors, schedule: str, zone: str | None, old: Object | None) -> None:
    problem = schedule_problem(schedule)
    if problem:
        errs.append(field.invalid("spec.schedule", schedule, problem))
    if "TZ" not in schedule:
        return
    if not (old is not None and "TZ" in (old.get("schedule") or "")):
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errs.append(field.invalid("spec.schedule", schedule, text))
    elif zone is not None:
        text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        errs.append(field.invalid("spec.schedule", schedule, text))


def _time_zone(errs: Errors, zone: str, path: str) -> None:
    if not zone:
        errs.append(field.invalid(path, zone, "timeZone must be nil or non-empty string"))
        return
    for part in zone.split("/"):
        if part in (".", "..") or part.startswith("-") or not _ZONE_PART_RE.fullmatch(part):
            errs.append(field.invalid(path, zone, f"unknown time zone {zone}"))
            return
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        errs.append(field.invalid(path, zone, text))
    if zone != "Local" and not zone_exists(zone):
        errs.append(field.invalid(path, zone, f"unknown time zone {zone}"))
