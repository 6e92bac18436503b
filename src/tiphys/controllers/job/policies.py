"""A Job's pod failure policy, success policy and back-off: pure decisions.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.objects import (
    name_of,
    namespace_of,
    status_of,
)
from tiphys.controllers.job.indexes import Indexes
from tiphys.controllers.job.podstate import (
    by_index,
    failures_of_index,
    finished_at,
    ignored_failures_of_index,
    index_of,
    is_failed,
    is_indexed,
)

INITIAL_BACKOFF = 10.0
MAX_BACKOFF = 600.0


# Pod failure policy


@dataclass(frozen=True, slots=True)
class FailureVerdict:
    """What a failed pod means: whether it counts, and whether it fails its index or (with a message) the Job."""

    counts: bool = True
    action: str | None = None
    message: str = ""


def judge_failure(policy: Object | None, pod: Object) -> FailureVerdict:
    """What a pod's failure means under the policy: whether it counts, the action, and the message if the Job fails."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        if rule.get("onExitCodes"):
            container = _matching_container(pod, rule["onExitCodes"])
            if container is None:
                continue
            code = container["state"]["terminated"]["exitCode"]
            message = (
                f"Container {container['name']} for pod {namespace_of(pod)}/{name_of(pod)} failed with exit code "
                f"{code} matching {action} rule at index {number}"
            )
        elif rule.get("onPodConditions"):
            matched = _matching_condition(pod, rule["onPodConditions"])
            if matched is None:
                continue
            name = f"{namespace_of(pod)}/{name_of(pod)}"
            message = f"Pod {name} has condition {matched} matching {action} rule at index {number}"
        else:
            continue
        return FailureVerdict(action != "Ignore", action, message if action == "FailJob" else "")
    return FailureVerdict()


def _matching_container(pod: Object, wanted: Object) -> Object | None:
    status = status_of(pod)
    for container in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        terminated = (container.get("state") or {}).get("terminated")
        if terminated is None or wanted.get("containerName") not in (None, container["name"]):
            continue
        code = terminated["exitCode"]
        if code != 0 and (code in wanted["values"]) == (wanted["operator"] == "In"):
            matched: Object = container
            return matched
    return None


def _matching_condition(pod: Object, patterns: Iterable[Object]) -> str | None:
    for condition in status_of(pod).get("conditions") or ():
        for pattern in patterns:
            if condition["type"] == pattern["type"] and condition["status"] == pattern.get("status", "True"):
                return str(condition["type"])
    return None


def job_failure_message(job: Object, pods: Iterable[Object]) -> str:
    """The message with which a pod fails the whole Job; empty if none does."""
    policy = job["spec"].get("podFailurePolicy")
    if policy is None:
        return ""
    return next(
        (verdict.message for pod in pods if is_failed(pod, job) and (verdict := judge_failure(policy, pod)).message),
        "",
    )


def fails_index(job: Object, pod: Object) -> bool:
    """Whether the pod's index has failed with it."""
    verdict = judge_failure(job["spec"].get("podFailurePolicy"), pod)
    if not is_failed(pod, job):
        return False
    if verdict.action == "FailIndex":
        return True
    return verdict.counts and failures_of_index(pod) >= int(job["spec"]["backoffLimitPerIndex"])


# Success policy


def success_message(job: Object, succeeded: Indexes) -> str:
    """The message with which the success policy is met; empty if it is not."""
    policy = job["spec"].get("successPolicy")
    if policy is None or not succeeded.intervals:
        return ""
    completions = int(job["spec"]["completions"])
    for number, rule in enumerate(policy.get("rules") or ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = Indexes.parse(rule["succeededIndexes"], completions)
            common = wanted.common(succeeded)
            met = bool(wanted.intervals) and (common == wanted.total() or (count is not None and common >= count))
        else:
            met = count is not None and succeeded.total() >= count
        if met:
            return f"Matched rules at index {number}"
    return ""


# Limits


def restarts_exceed_limit(job: Object, pods: Iterable[Object]) -> bool:
    """With restartPolicy OnFailure the restarts of containers count against the back-off limit."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = 0
    for pod in pods:
        if podkit.phase_of(pod) in ("Running", "Pending"):
            status = status_of(pod)
            for field in ("initContainerStatuses", "containerStatuses"):
                restarts += sum(int(c.get("restartCount") or 0) for c in status.get(field) or ())
    limit = backoff_limit(job)
    return restarts > 0 if limit == 0 else restarts >= limit


def backoff_limit(job: Object) -> int:
    limit = job["spec"].get("backoffLimit")
    return 6 if limit is None else int(limit)


# Back-off


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures since the last success, and when the last one was."""

    failures: int = 0
    last: float | None = None

    def after(self, succeeded: Iterable[Object], failed: Iterable[Object]) -> Backoff:
        """Once more pods have finished."""
        successes = [finished_at(pod) for pod in succeeded]
        failures = sorted(finished_at(pod) for pod in failed)
        if not successes:
            return Backoff(self.failures + len(failures), failures[-1]) if failures else self
        later = [time for time in failures if time > max(successes)]
        return Backoff(len(later), later[-1] if later else None)

    def remaining(self, now: float) -> float:
        """Seconds until the next pod may be created."""
        if self.failures == 0 or self.last is None:
            return 0.0
        delay = min(INITIAL_BACKOFF * float(2 ** min(self.failures - 1, 16)), MAX_BACKOFF)
        return max(0.0, delay - (now - self.last))


def index_backoff(pod: Object | None, now: float) -> float:
    """Seconds until an index may be tried again after its last pod."""
    if pod is None:
        return 0.0
    return Backoff(failures_of_index(pod) + ignored_failures_of_index(pod) + 1, finished_at(pod)).remaining(now)


def next_failure_counts(job: Object, replaced: Object | None) -> tuple[int, int]:
    """Counted and ignored failures of an index, for the pod that replaces ``replaced``."""
    if replaced is None:
        return 0, 0
    counted, ignored = failures_of_index(replaced), ignored_failures_of_index(replaced)
    if judge_failure(job["spec"].get("podFailurePolicy"), replaced).counts:
        return counted + 1, ignored
    return counted, ignored + 1


def pods_to_remove(job: Object, pods: Sequence[Object], at_least: int) -> list[Object]:
    """Active pods to delete: duplicates and those beyond the completions, then the least advanced."""
    if not is_indexed(job):
        return podkit.sort_active(pods)[:at_least]
    completions = int(job["spec"]["completions"])
    groups: dict[int | None, list[Object]] = {}
    for pod in sorted(pods, key=by_index):
        index = index_of(pod)
        groups.setdefault(None if index is None or index >= completions else index, []).append(pod)
    doomed = groups.pop(None, [])
    left = []
    for group in groups.values():
        *surplus, kept = podkit.sort_active(group)
        doomed += surplus
        left.append(kept)
    if len(doomed) < at_least:
        doomed += podkit.sort_active(left)[: at_least - len(doomed)]
    return doomed
