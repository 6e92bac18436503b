"""Which containers pods run, from look to look: who was not killed himself runs on, whoever else is.

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.api.object import Object


class Identities:
    """``seen`` has the uids of all pods that there ever were."""

    def __init__(self) -> None:
        self._containers: dict[str, str] = {}
        self.seen: set[str] = set()

    def note(self, pods: Sequence[Object]) -> None:
        """The cluster is at rest: what runs now is what each pod has from now on."""
        self.seen |= {pod["metadata"]["uid"] for pod in pods}
        self._containers = {pod["metadata"]["uid"]: own for pod in pods if (own := _container(pod))}

    def faults(self, pods: Sequence[Object]) -> list[str]:
        """Pods whose container is another than before, or has run before: nobody had a reason to restart it."""
        self.seen |= {pod["metadata"]["uid"] for pod in pods}
        faults = []
        for pod in pods:
            meta, now = pod["metadata"], _container(pod)
            before = self._containers.get(meta["uid"], now)
            if now and now != before:
                faults.append(f"pod {meta['name']} has another container than before")
            elif (ended := _ran_before(pod)) is not None:
                faults.append(f"the container of pod {meta['name']} was restarted; it had ended: {ended}")
        return faults


def _container(pod: Object) -> str:
    """The id of the only container, if it runs."""
    [status] = pod.get("status", {}).get("containerStatuses") or [{}]
    return str(status.get("containerID") or "") if "running" in (status.get("state") or {}) else ""


def _ran_before(pod: Object) -> str | None:
    """How an earlier run of a pod's only container ended, if it ran at all."""
    [status] = pod.get("status", {}).get("containerStatuses") or [{}]
    ended = (status.get("lastState") or {}).get("terminated") or {}
    if not status.get("restartCount") or not ended.get("startedAt"):
        return None
    return f"{ended.get('reason')}, exit code {ended.get('exitCode')}"
