"""The termination messages of a pod share 12 KiB: each of its containers has an equal part of them.

Source: https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

from __future__ import annotations

from tiphys.api.object import Object

MOST_FOR_A_POD = 12 << 10
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
_STATES = ("state", "lastState")


def share(pod: Object) -> int:
    """How many bytes of message a container of ``pod`` may have."""
    return MOST_FOR_A_POD // max(1, sum(len(pod["spec"].get(field) or ()) for field in _CONTAINERS))


def shortened(pod: Object, status: Object) -> Object:
    """``status`` with no message above its share; itself if none is."""
    limit = share(pod)
    changes = {
        field: [_container(container, limit) for container in status[field]]
        for field in _STATUSES
        if any(_too_long(container, name, limit) for container in status.get(field) or () for name in _STATES)
    }
    return {**status, **changes} if changes else status


def _message(container: Object, state: str) -> str:
    return ((container.get(state) or {}).get("terminated") or {}).get("message") or ""


def _too_long(container: Object, state: str, limit: int) -> bool:
    return len(_message(container, state).encode()) > limit


def _container(container: Object, limit: int) -> Object:
    cut = dict(container)
    for state in _STATES:
        if _too_long(container, state, limit):
            message = _message(container, state).encode()[:limit].decode("utf-8", "replace")
            cut[state] = {"terminated": {**container[state]["terminated"], "message": message}}
    return cut
