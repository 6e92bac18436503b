"""The condition that shows a pod's owner that it is deleted for no fault of its own.

Source: https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.controlkit.objects import condition, generation_of, timestamp, uid_of


def disruption_patch(pod: Object, reason: str, message: str, now: float) -> Object | None:
    """The patch of the pod's status that sets it; None if it is set already."""
    wanted: Object = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    current = condition(pod, "DisruptionTarget")
    if current is not None and all(current.get(field) == value for field, value in wanted.items()):
        return None
    if generation_of(pod):
        wanted["observedGeneration"] = generation_of(pod)
    if current is None or current.get("status") != "True":
        wanted["lastTransitionTime"] = timestamp(now)
    return {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [wanted]}}
