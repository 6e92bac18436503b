"""A Deployment's status: counts, conditions, and whether it makes progress. Pure decisions.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.meta.conditions import transition_time
from tiphys.api.object import Object
from tiphys.controlkit.objects import (
    find_condition,
    generation_of,
    name_of,
    parse_time,
    status_of,
    timestamp,
)
from tiphys.controllers.deployment.rollout import MAX_INT32, max_unavailable, replicas_of, total, total_status

PROGRESSING = "Progressing"
REPLICA_FAILURE = "ReplicaFailure"


def progress_deadline(deployment: Object) -> int | None:
    """Seconds, or None if progress is not watched."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == MAX_INT32 else int(seconds)


def make_condition(type_: str, status: str, reason: str, message: str, now: float) -> Object:
    time = timestamp(now)
    return {
        "type": type_,
        "status": status,
        "lastUpdateTime": time,
        "lastTransitionTime": time,
        "reason": reason,
        "message": message,
    }


def set_condition(status: Object, wanted: Object) -> None:
    """Put a condition into ``status``; one of the same status and reason stays as it is."""
    current = find_condition(status.get("conditions"), wanted["type"])
    same = current is not None and current["status"] == wanted["status"]
    if same and current is not None and current.get("reason") == wanted["reason"]:
        return
    since = transition_time(current, wanted["status"], wanted["lastTransitionTime"])
    remove_condition(status, wanted["type"])
    status.setdefault("conditions", []).append({**wanted, "lastTransitionTime": since})


def remove_condition(status: Object, type_: str) -> None:
    kept = [condition for condition in status.get("conditions") or () if condition["type"] != type_]
    if kept:
        status["conditions"] = kept
    else:
        status.pop("conditions", None)


def counts(deployment: Object, new: Object | None, old: Sequence[Object], now: float) -> Object:
    """The status but for the Progressing and ReplicaFailure conditions, which stay as they are."""
    sets = [*old, new] if new is not None else list(old)
    available = total_status(sets, "availableReplicas")
    numbers: Object = {
        "observedGeneration": generation_of(deployment),
        "replicas": total_status(sets, "replicas"),
        "updatedReplicas": total_status([new], "replicas") if new is not None else 0,
        "readyReplicas": total_status(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(total(sets) - available, 0),
    }
    status = {field: number for field, number in numbers.items() if number}
    terminating = _terminating(sets)
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    current = status_of(deployment)
    if current.get("collisionCount") is not None:
        status["collisionCount"] = current["collisionCount"]
    if current.get("conditions"):
        status["conditions"] = [dict(condition) for condition in current["conditions"]]
    if available >= replicas_of(deployment) - max_unavailable(deployment):
        reason, message = "MinimumReplicasAvailable", "Deployment has minimum availability."
        set_condition(status, make_condition("Available", "True", reason, message, now))
    else:
        reason, message = "MinimumReplicasUnavailable", "Deployment does not have minimum availability."
        set_condition(status, make_condition("Available", "False", reason, message, now))
    return status


def _terminating(sets: Sequence[Object]) -> int | None:
    """None if one of the ReplicaSets does not report it."""
    total = 0
    for rs in sets:
        status = status_of(rs)
        if status.get("terminatingReplicas") is not None:
            total += int(status["terminatingReplicas"])
        elif status.get("observedGeneration"):
            return None
    return total


def is_complete(deployment: Object, status: Object) -> bool:
    desired = replicas_of(deployment)
    return (
        (status.get("updatedReplicas") or 0) == desired
        and (status.get("replicas") or 0) == desired
        and (status.get("availableReplicas") or 0) == desired
        and (status.get("observedGeneration") or 0) >= generation_of(deployment)
    )


def is_progressing(deployment: Object, status: Object) -> bool:
    """Whether anything moved since the status that the Deployment has."""

    def of(counted: Object, field: str) -> int:
        return int(counted.get(field) or 0)

    current = status_of(deployment)
    old_before = of(current, "replicas") - of(current, "updatedReplicas")
    old_after = of(status, "replicas") - of(status, "updatedReplicas")
    return (
        of(status, "updatedReplicas") > of(current, "updatedReplicas")
        or old_after < old_before
        or of(status, "readyReplicas") > of(current, "readyReplicas")
        or of(status, "availableReplicas") > of(current, "availableReplicas")
    )


def has_timed_out(deployment: Object, status: Object, now: float) -> bool:
    deadline = progress_deadline(deployment)
    condition = find_condition(status.get("conditions"), PROGRESSING)
    if deadline is None or condition is None or condition.get("reason") == "NewReplicaSetAvailable":
        return False
    if condition.get("reason") == "ProgressDeadlineExceeded":
        return True
    since = parse_time(condition.get("lastUpdateTime"))
    return since is not None and since + deadline < now


def rollout_status(deployment: Object, new: Object | None, old: Sequence[Object], now: float) -> Object:
    """The whole status during a rollout."""
    status = counts(deployment, new, old, now)
    if progress_deadline(deployment) is None:
        remove_condition(status, PROGRESSING)
    else:
        _note_progress(deployment, new, status, now)
    failure = _replica_failure(new, old)
    if failure is not None:
        set_condition(status, failure)
    else:
        remove_condition(status, REPLICA_FAILURE)
    return status


def _note_progress(deployment: Object, new: Object | None, status: Object, now: float) -> None:
    current = find_condition(status_of(deployment).get("conditions"), PROGRESSING)
    settled = current is not None and current.get("reason") == "NewReplicaSetAvailable"
    if settled and (status.get("replicas") or 0) == (status.get("updatedReplicas") or 0):
        return
    subject = f'ReplicaSet "{name_of(new)}"' if new is not None else f'Deployment "{name_of(deployment)}"'
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        set_condition(status, make_condition(PROGRESSING, "True", "NewReplicaSetAvailable", message, now))
    elif is_progressing(deployment, status):
        wanted = make_condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        wanted["lastTransitionTime"] = transition_time(current, "True", wanted["lastTransitionTime"])
        remove_condition(status, PROGRESSING)  # so that its lastUpdateTime moves on with each progress
        set_condition(status, wanted)
    elif has_timed_out(deployment, status, now):
        message = f"{subject} has timed out progressing."
        set_condition(status, make_condition(PROGRESSING, "False", "ProgressDeadlineExceeded", message, now))


def _replica_failure(new: Object | None, old: Sequence[Object]) -> Object | None:
    for rs in [*([new] if new is not None else []), *old]:
        failure = find_condition(status_of(rs).get("conditions"), REPLICA_FAILURE)
        if failure is not None:
            changed = failure.get("lastTransitionTime")
            return {
                "type": REPLICA_FAILURE,
                "status": failure["status"],
                "lastUpdateTime": changed,
                "lastTransitionTime": changed,
                "reason": failure.get("reason", ""),
                "message": failure.get("message", ""),
            }
    return None


def stuck_check_after(deployment: Object, status: Object, now: float) -> float | None:
    """Seconds after which to look whether the rollout has timed out; 0 means soon, None that there is no need."""
    deadline = progress_deadline(deployment)
    current = find_condition(status_of(deployment).get("conditions"), PROGRESSING)
    if deadline is None or current is None:
        return None
    if is_complete(deployment, status) or current.get("reason") == "ProgressDeadlineExceeded":
        return None
    since = parse_time(current.get("lastUpdateTime")) or now
    left = since + deadline - now
    return 0.0 if left < 1 else left + 1


def pause_condition(deployment: Object, now: float) -> Object | None:
    """The Progressing condition to set when a Deployment was paused or resumed."""
    if progress_deadline(deployment) is None:
        return None
    current = find_condition(status_of(deployment).get("conditions"), PROGRESSING)
    if current is not None and current.get("reason") == "ProgressDeadlineExceeded":
        return None
    noted = current is not None and current.get("reason") == "DeploymentPaused"
    paused = bool(deployment["spec"].get("paused"))
    if paused and not noted:
        return make_condition(PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused", now)
    if not paused and noted:
        return make_condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return None
