"""What a Job's pods add up to, and whether the Job has ended: pure decisions.

A pod keeps the tracking finalizer until its end has been written to the Job's status, so that none is missed or counted
twice. Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    condition,
    is_deleting,
    parse_time,
    timestamp,
    uid_of,
)
from tiphys.controllers.job import policies
from tiphys.controllers.job.indexes import Indexes
from tiphys.controllers.job.podstate import (
    by_index,
    finished_at,
    has_finalizer,
    ignored_failures_of_index,
    indexes_of,
    is_failed,
    is_indexed,
    is_suspended,
    limits_per_index,
    valid_index_of,
)
from tiphys.controllers.job.podstate import failures_of_index as failures_before

MAX_UNCOUNTED = 500


def make_condition(type_: str, status: str, reason: str, message: str, now: float) -> Object:
    time = timestamp(now)
    return {
        "type": type_,
        "status": status,
        "lastProbeTime": time,
        "lastTransitionTime": time,
        "reason": reason,
        "message": message,
    }


def is_finished(job: Object) -> bool:
    return any(
        (state := condition(job, type_)) is not None and state["status"] == "True" for type_ in ("Complete", "Failed")
    )


def true_condition(job: Object, type_: str) -> Object | None:
    present = condition(job, type_)
    return present if present is not None and present["status"] == "True" else None


@dataclass(slots=True)
class Tally:
    """One reconciliation's view of a Job. ``job`` is our copy; its status is changed in place."""

    job: Object
    pods: list[Object]
    removed: frozenset[str]
    """Uids of pods whose finalizer was removed, which the informer may not show yet."""
    now: float
    active: list[Object] = field(default_factory=list)
    new_succeeded: list[Object] = field(default_factory=list)
    new_failed: list[Object] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    ready: int = 0
    terminating: int = 0
    previous_indexes: Indexes = field(default_factory=Indexes)
    succeeded_indexes: Indexes = field(default_factory=Indexes)
    failed_indexes: Indexes | None = None
    delayed: dict[int, Object] = field(default_factory=dict)
    """By index, the failed pod that stays until its replacement is made: it carries the index's failure count."""
    finished: Object | None = None
    """The condition with which the Job ends."""

    def __post_init__(self) -> None:
        status = self.status
        self.active = [pod for pod in self.pods if podkit.is_active(pod)]
        self.ready = sum(map(podkit.is_ready, self.active))
        self.terminating = sum(map(podkit.is_terminating, self.pods))
        self.new_succeeded = self._new("succeeded", lambda pod: podkit.phase_of(pod) == "Succeeded")
        self.new_failed = self._new("failed", lambda pod: is_failed(pod, self.job))
        policy = self.job["spec"].get("podFailurePolicy")
        counted = [pod for pod in self.new_failed if policies.judge_failure(policy, pod).counts]
        uncounted = status["uncountedTerminatedPods"]
        self.succeeded = int(status.get("succeeded") or 0) + len(self.new_succeeded)
        self.succeeded += len(uncounted.get("succeeded") or ())
        self.failed = int(status.get("failed") or 0) + len(counted) + len(uncounted.get("failed") or ())

    @property
    def status(self) -> Object:
        status: Object = self.job["status"]
        return status

    def _new(self, name: str, wanted: Callable[[Object], bool]) -> list[Object]:
        """Pods that have ended and are not in the status yet."""
        known = self.status["uncountedTerminatedPods"].get(name) or ()
        return [pod for pod in self._tracked() if uid_of(pod) not in known and wanted(pod)]

    def _tracked(self) -> list[Object]:
        return [
            pod
            for pod in self.pods
            if has_finalizer(pod)
            and uid_of(pod) not in self.removed
            and (not is_indexed(self.job) or valid_index_of(pod, self.job) is not None)
        ]

    # Whether it ends

    def conclude(self) -> None:
        """Find out whether the Job has succeeded by policy, or failed."""
        self.finished = true_condition(self.job, "SuccessCriteriaMet")
        if self.finished is None:
            self.finished = self._failure()
        if is_indexed(self.job):
            self._count_indexes()
        if self.finished is None and is_indexed(self.job):
            message = policies.success_message(self.job, self.succeeded_indexes)
            if message:
                self.finished = self._condition("SuccessCriteriaMet", "SuccessPolicy", message)

    def _condition(self, type_: str, reason: str, message: str) -> Object:
        return make_condition(type_, "True", reason, message, self.now)

    def _failure(self) -> Object | None:
        target = true_condition(self.job, "FailureTarget")
        if target is not None:
            return self._condition("Failed", target.get("reason", ""), target.get("message", ""))
        message = policies.job_failure_message(self.job, self.pods)
        if message:
            return self._condition("FailureTarget", "PodFailurePolicy", message)
        limit = policies.backoff_limit(self.job)
        if self.failed > limit or policies.restarts_exceed_limit(self.job, self.pods):
            message = "Job has reached the specified backoff limit"
            return self._condition("FailureTarget", "BackoffLimitExceeded", message)
        left = self.deadline_in()
        if left is not None and left <= 0:
            message = "Job was active longer than specified deadline"
            return self._condition("FailureTarget", "DeadlineExceeded", message)
        return None

    def deadline_in(self) -> float | None:
        """Seconds until the active deadline; None if none exists."""
        deadline, started = self.job["spec"].get("activeDeadlineSeconds"), parse_time(self.status.get("startTime"))
        if deadline is None or started is None or is_suspended(self.job):
            return None
        return started + int(deadline) - self.now

    def _count_indexes(self) -> None:
        spec = self.job["spec"]
        completions = int(spec["completions"])
        self.previous_indexes = Indexes.parse(self.status.get("completedIndexes"), completions)
        done = {
            index
            for pod in self.pods
            if podkit.phase_of(pod) == "Succeeded"
            and has_finalizer(pod)
            and (index := valid_index_of(pod, self.job)) is not None
        }
        self.succeeded_indexes = self.previous_indexes.add(done)
        self.succeeded = self.succeeded_indexes.total()
        if limits_per_index(self.job):
            self._count_failed_indexes(completions)

    def _count_failed_indexes(self, completions: int) -> None:
        failed = {
            index
            for pod in self.pods
            if has_finalizer(pod)
            and (index := valid_index_of(pod, self.job)) is not None
            and policies.fails_index(self.job, pod)
        }
        self.failed_indexes = Indexes.parse(self.status.get("failedIndexes"), completions).add(failed)
        total = self.failed_indexes.total()
        limit = self.job["spec"].get("maxFailedIndexes")
        if self.finished is None and limit is not None and total > int(limit):
            message = "Job has exceeded the specified maximal number of failed indexes"
            self.finished = self._condition("FailureTarget", "MaxFailedIndexesExceeded", message)
        elif self.finished is None and total and total + self.succeeded_indexes.total() >= completions:
            self.finished = self._condition("FailureTarget", "FailedIndexes", "Job has failed indexes")
        self._find_delayed()

    def _find_delayed(self) -> None:
        assert self.failed_indexes is not None
        active = indexes_of(self.active)
        for pod in self._tracked():
            index = valid_index_of(pod, self.job)
            if index is None or not is_failed(pod, self.job):
                continue
            if index in self.succeeded_indexes or index in self.failed_indexes or index in active:
                continue
            last = self.delayed.get(index)
            if last is None or (_tries(last) <= _tries(pod) and finished_at(pod) >= finished_at(last)):
                self.delayed[index] = pod

    # What is to be done

    def wanted_active(self) -> int:
        spec = self.job["spec"]
        parallelism = _number(spec, "parallelism", 1)
        if spec.get("completions") is None:
            return len(self.active) if self.succeeded > 0 else parallelism
        return max(0, min(int(spec["completions"]) - self.succeeded, parallelism))

    def is_complete(self, active: int) -> bool:
        completions = self.job["spec"].get("completions")
        if completions is None:
            return self.succeeded > 0 and active == 0
        return self.succeeded >= int(completions) and active == 0

    def pending_indexes(self, count: int, *, waits_for_terminating: bool) -> list[int]:
        """The first indexes that have no pod and need one."""
        taken = self.succeeded_indexes.add(indexes_of(self.active))
        if waits_for_terminating:
            taken = taken.add(indexes_of(pod for pod in self.pods if podkit.is_terminating(pod)))
        if self.failed_indexes is not None:
            taken = taken.merge(self.failed_indexes)
        return taken.first_missing(count, int(self.job["spec"]["completions"]))

    # Counting

    def count(self) -> tuple[list[Object], bool, bool]:
        """Note ended pods in the status; returns pods to release, whether it changed, and whether not all fit."""
        uncounted = self.status["uncountedTerminatedPods"]
        succeeded, failed = uncounted.setdefault("succeeded", []), uncounted.setdefault("failed", [])
        removable: list[Object] = []
        new_indexes: list[int] = []
        changed = full = False
        for pod in sorted(self.pods, key=by_index) if is_indexed(self.job) else self.pods:
            if not has_finalizer(pod) or uid_of(pod) in self.removed or not self._may_release(pod):
                continue
            removable.append(pod)
            changed |= self._count_pod(pod, succeeded, failed, new_indexes)
            if len(new_indexes) + len(succeeded) + len(failed) >= MAX_UNCOUNTED:
                full = True
                break
        if is_indexed(self.job):
            changed |= self._write_indexes(new_indexes)
        return removable, changed, full

    def _may_release(self, pod: Object) -> bool:
        if is_deleting(self.job) or self.finished is not None or podkit.phase_of(pod) == "Succeeded":
            return True
        if not is_failed(pod, self.job):
            return False
        return all(uid_of(kept) != uid_of(pod) for kept in self.delayed.values())

    def _count_pod(self, pod: Object, succeeded: list[str], failed: list[str], new_indexes: list[int]) -> bool:
        uid, indexed = uid_of(pod), is_indexed(self.job)
        index = valid_index_of(pod, self.job) if indexed else None
        if podkit.phase_of(pod) == "Succeeded" and uid not in failed:
            if indexed and index is not None and index not in self.previous_indexes:
                new_indexes.append(index)
                return True
            if not indexed and uid not in succeeded:
                succeeded.append(uid)
                return True
            return False
        ending = self.finished is not None and self.finished["type"] != "SuccessCriteriaMet"
        if not (is_failed(pod, self.job) or ending) or uid in failed or (indexed and index is None):
            return False
        if policies.judge_failure(self.job["spec"].get("podFailurePolicy"), pod).counts:
            failed.append(uid)
            return True
        return False

    def _write_indexes(self, new_indexes: Iterable[int]) -> bool:
        status = self.status
        self.succeeded_indexes = self.succeeded_indexes.add(new_indexes)
        text = str(self.succeeded_indexes)
        changed = text != (status.get("completedIndexes") or "")
        status["succeeded"], status["completedIndexes"] = self.succeeded_indexes.total(), text
        failed = None if self.failed_indexes is None else str(self.failed_indexes)
        if status.get("failedIndexes") != failed:
            status["failedIndexes"] = failed
            changed = True
        return changed

    def settle_condition(self) -> bool:
        """Write the interim condition of a Job that ends, and continue to the final one. Whether it was new."""
        finished = self.finished
        if finished is None:
            return False
        added = False
        conditions = self.status.setdefault("conditions", [])
        if finished["type"] == "FailureTarget":
            conditions.append(finished)
            added = True
            self.finished = self._condition("Failed", finished["reason"], finished["message"])
        elif finished["type"] == "SuccessCriteriaMet":
            if true_condition(self.job, "SuccessCriteriaMet") is None:
                conditions.append(finished)
                added = True
            self.finished = self._condition("Complete", finished.get("reason", ""), finished.get("message", ""))
        return added

    def enact(self) -> bool:
        """Write the final condition, once every pod is counted and gone. Whether the Job has ended."""
        uncounted = self.status["uncountedTerminatedPods"]
        if self.finished is None or uncounted.get("succeeded") or uncounted.get("failed") or self.terminating > 0:
            return False
        ensure_condition(self.status, self.finished)
        if self.finished["type"] == "Complete":
            self.status["completionTime"] = self.finished["lastTransitionTime"]
        return True


def _tries(pod: Object) -> int:
    return failures_before(pod) + ignored_failures_of_index(pod)


def _number(spec: Object, name: str, default: int) -> int:
    value = spec.get(name)
    return default if value is None else int(value)


def ensure_condition(status: Object, wanted: Object) -> bool:
    """Set a condition; one that would only say False is not added. Whether anything changed."""
    conditions = status.setdefault("conditions", [])
    for number, present in enumerate(conditions):
        if present["type"] == wanted["type"]:
            same = all(present.get(name) == wanted[name] for name in ("status", "reason", "message"))
            if not same:
                conditions[number] = wanted
            return not same
    if wanted["status"] == "False":
        return False
    conditions.append(wanted)
    return True


def drop_counted(status: Object, with_finalizer: Sequence[str] | set[str]) -> bool:
    """Move uncounted pods that have no finalizer any more into the totals. Whether anything changed."""
    uncounted, changed = status["uncountedTerminatedPods"], False
    for name in ("succeeded", "failed"):
        before = uncounted.get(name) or []
        kept = [uid for uid in before if uid in with_finalizer]
        if len(kept) != len(before):
            status[name] = int(status.get(name) or 0) + len(before) - len(kept)
            uncounted[name] = kept
            changed = True
    return changed
