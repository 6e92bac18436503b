"""PrioritySort: higher priority first, then who has waited longer.

Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from tiphys.scheduler.framework.podinfo import QueuedPod


class PrioritySort:
    name = "PrioritySort"

    def key(self, queued: QueuedPod) -> tuple[int, float]:
        return -queued.pod.priority, queued.timestamp
