"""Validation of updates of a job's status.

Since jobs may be run by a controller other than the built-in one (KEP-4368), the status must make sense to those who
read it. A rule is applied only if what it is about has changed, so that a status that was wrong already can still be
updated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api import fielderrors as field
from tiphys.api.object import Object
from tiphys.validation.batch.indexes import IndexesError, count_indexes, overlap
from tiphys.validation.shared.common import (
    Errors,
    equal,
    non_negative,
)
from tiphys.validation.shared.objectmeta import validate_meta_update

_AT = "status.conditions"


def validate_job_status_update(new: Object, old: Object) -> Errors:
    """The errors of an update of a Job's status: counts, conditions, times and indexes, and their transitions."""
    errs: Errors = []
    validate_meta_update(errs, new, old)
    after, before, spec = new.get("status") or {}, old.get("status") or {}, new.get("spec") or {}
    for key in ("active", "succeeded", "failed", "ready", "terminating"):
        non_negative(errs, after.get(key), f"status.{key}")
    _uncounted(errs, after.get("uncountedTerminatedPods") or {})
    change = _Change(after, before)
    _outcome(errs, after, change)
    _times(errs, after, change)
    _criteria(errs, after, change)
    _finished(errs, after, spec, change)
    _indexes(errs, after, spec, change)
    _pods(errs, after, change)
    _success(errs, after, spec)
    _transitions(errs, after, before, spec)
    return errs


def is_true(status: Object, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _is_finished(status: Object) -> bool:
    return is_true(status, "Complete") or is_true(status, "Failed")


class _Change:
    """What is different between the new status and the old one."""

    def __init__(self, new: Object, old: Object) -> None:
        self._new, self._old = new, old

    def field(self, *keys: str) -> bool:
        return any(not equal(self._new.get(key), self._old.get(key)) for key in keys)

    def condition(self, *kinds: str) -> bool:
        return any(is_true(self._new, kind) != is_true(self._old, kind) for kind in kinds)

    @property
    def finished(self) -> bool:
        return _is_finished(self._new) != _is_finished(self._old)


def _uncounted(errs: Errors, uids: Object) -> None:
    seen: set[str] = set()
    for key in ("succeeded", "failed"):
        for i, uid in enumerate(uids.get(key) or ()):
            at = f"status.uncountedTerminatedPods.{key}[{i}]"
            if not uid:
                errs.append(field.invalid(at, uid, "must not be empty"))
            elif uid in seen:
                errs.append(field.duplicate(at, uid))
            seen.add(uid)


def _conditions(errs: Errors, text: str) -> None:
    errs.append(field.invalid(_AT, field.OMITTED, text))


def _outcome(errs: Errors, status: Object, change: _Change) -> None:
    complete = is_true(status, "Complete")
    if change.condition("Complete", "Failed") and complete and is_true(status, "Failed"):
        _conditions(errs, "cannot set Complete=True and Failed=true conditions")
    if change.condition("Complete", "FailureTarget") and complete and is_true(status, "FailureTarget"):
        _conditions(errs, "cannot set Complete=True and FailureTarget=true conditions")


def _times(errs: Errors, status: Object, change: _Change) -> None:
    complete, ended, started = is_true(status, "Complete"), status.get("completionTime"), status.get("startTime")
    at = "status.completionTime"
    if change.condition("Complete") or change.field("completionTime"):
        if ended and not complete:
            text = "cannot set completionTime when there is no Complete=True condition"
            errs.append(field.invalid(at, ended, text))
        if not ended and complete:
            errs.append(field.required(at, "completionTime is required for Complete jobs"))
    # Times are in UTC and to the second, so that their texts compare as they do.
    if change.field("startTime", "completionTime") and started and ended and ended < started:
        errs.append(field.invalid(at, ended, "must be equal to or after `startTime`"))


def _criteria(errs: Errors, status: Object, change: _Change) -> None:
    failed = is_true(status, "Failed") and not is_true(status, "FailureTarget")
    if failed and (change.condition("Failed") or change.field("failedIndexes")):
        _conditions(errs, "cannot set Failed=True condition without the FailureTarget=true condition")
    complete = is_true(status, "Complete") and not is_true(status, "SuccessCriteriaMet")
    if complete and change.condition("Complete", "SuccessCriteriaMet"):
        _conditions(errs, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")


def _finished(errs: Errors, status: Object, spec: Object, change: _Change) -> None:
    if not _is_finished(status):
        return
    active = status.get("active") or 0
    if (change.finished or change.field("active")) and active > 0:
        errs.append(field.invalid("status.active", active, "active>0 is invalid for finished job"))
    nothing_to_do = spec.get("suspend") is True and spec.get("completions") == 0
    if (change.finished or change.field("startTime")) and not nothing_to_do and not status.get("startTime"):
        errs.append(field.required("status.startTime", "startTime is required for finished job"))
    uncounted = status.get("uncountedTerminatedPods") or {}
    left = uncounted.get("succeeded") or uncounted.get("failed")
    if left and (change.finished or change.field("uncountedTerminatedPods")):
        shown = {"Succeeded": uncounted.get("succeeded"), "Failed": uncounted.get("failed")}
        errs.append(field.invalid("status.uncountedTerminatedPods", shown, "must be empty for finished job"))


def _indexes(errs: Errors, status: Object, spec: Object, change: _Change) -> None:
    """Validate changes of completed and failed indexes, which may not overlap. Appends to ``errs``."""
    completed, failed, total = (
        status.get("completedIndexes") or "",
        status.get("failedIndexes"),
        spec.get("completions"),
    )
    completed_changed, failed_changed = change.field("completedIndexes"), change.field("failedIndexes")
    per_index = spec.get("backoffLimitPerIndex") is not None
    if completed_changed and total is not None:
        _readable(errs, completed, total, "completedIndexes")
    if failed_changed and total is not None and per_index and failed is not None:
        _readable(errs, failed, total, "failedIndexes")
    if completed_changed and completed and spec.get("completionMode") != "Indexed":
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        errs.append(field.invalid("status.completedIndexes", completed, text))
    if failed_changed and not per_index and failed is not None:
        text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
        errs.append(field.invalid("status.failedIndexes", failed, text))
    if (failed_changed or completed_changed) and total is not None and failed is not None:
        both = overlap(completed, failed, total)
        if both is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {both}"
            errs.append(field.invalid("status.failedIndexes", failed, text))


def _readable(errs: Errors, text: str, total: int, key: str) -> None:
    try:
        count_indexes(text, total)
    except IndexesError as error:
        errs.append(field.invalid(f"status.{key}", text, f"error parsing {key}: {error}"))


def _pods(errs: Errors, status: Object, change: _Change) -> None:
    terminating, ready = status.get("terminating") or 0, status.get("ready") or 0
    if (change.finished or change.field("terminating")) and terminating > 0 and _is_finished(status):
        errs.append(field.invalid("status.terminating", terminating, "terminating>0 is invalid for finished job"))
    if status.get("ready") is not None and change.field("ready", "active") and ready > (status.get("active") or 0):
        errs.append(field.invalid("status.ready", ready, "cannot set more ready pods than active"))


def _success(errs: Errors, status: Object, spec: Object) -> None:
    met = is_true(status, "SuccessCriteriaMet")
    if met and is_true(status, "Failed"):
        _conditions(errs, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if met and is_true(status, "FailureTarget"):
        _conditions(errs, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if spec.get("successPolicy") is not None and not met and is_true(status, "Complete"):
        text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        _conditions(errs, text)


def _transitions(errs: Errors, new: Object, old: Object, spec: Object) -> None:
    """What has ended stays ended, and counters only grow."""
    for kind in ("Failed", "Complete", "FailureTarget"):
        if is_true(old, kind) and not is_true(new, kind):
            _conditions(errs, f"cannot disable the terminal {kind}=True condition")
    scalable = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    for key in ("failed", "succeeded"):
        value = new.get(key) or 0
        if value < (old.get(key) or 0) and not (key == "succeeded" and scalable):
            errs.append(field.invalid(f"status.{key}", value, f"cannot decrease the {key} counter"))
    _fixed_times(errs, new, old, spec)
    if is_true(old, "SuccessCriteriaMet") and not is_true(new, "SuccessCriteriaMet"):
        _conditions(errs, "cannot disable the SuccessCriteriaMet=True condition")
    if is_true(old, "Complete") and not is_true(old, "SuccessCriteriaMet") and is_true(new, "SuccessCriteriaMet"):
        _conditions(errs, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")


def _fixed_times(errs: Errors, new: Object, old: Object, spec: Object) -> None:
    ended, started = new.get("completionTime"), new.get("startTime")
    if ended and old.get("completionTime") and ended != old["completionTime"]:
        errs.append(field.invalid("status.completionTime", ended, "field is immutable"))

    def condition(status: Object, value: str) -> bool:
        check: Callable[[Any], bool] = lambda c: c.get("type") == "Suspended" and c.get("status") == value  # noqa: E731
        return any(check(c) for c in status.get("conditions") or ())

    resuming = condition(old, "True") and condition(new, "False")
    if old.get("startTime") and old["startTime"] != started and not resuming and not spec.get("suspend"):
        text = "field is immutable for unsuspended job once set"
        errs.append(field.invalid("status.startTime", started, text))
