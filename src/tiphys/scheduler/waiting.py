"""Pods that a permit plugin holds, after a node was chosen and before it is bound.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/#permit
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from tiphys.scheduler.framework.podinfo import PodInfo
from tiphys.scheduler.framework.status import Status, unschedulable

MAX_WAIT = 15 * 60.0


class WaitingPod:
    """``allow`` by every plugin that holds it releases it; one ``reject``, or the first time-out, ends the wait."""

    def __init__(self, pod: PodInfo, waits: Mapping[str, float]) -> None:
        self.pod = pod
        self.holders = set(waits)
        self._outcome: asyncio.Future[Status | None] = asyncio.get_running_loop().create_future()
        self._timers = [
            asyncio.get_running_loop().call_later(
                min(seconds, MAX_WAIT),
                self.reject,
                name,
                f"rejected due to timeout after waiting {seconds:g}s at plugin {name}",
            )
            for name, seconds in waits.items()
        ]

    def allow(self, plugin: str) -> None:
        self.holders.discard(plugin)
        if not self.holders:
            self._finish(None)

    def reject(self, plugin: str, message: str) -> None:
        self._finish(unschedulable(message).by(plugin))

    def _finish(self, outcome: Status | None) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def wait(self) -> Status | None:
        try:
            return await self._outcome
        finally:
            for timer in self._timers:
                timer.cancel()


class WaitingPods:
    def __init__(self) -> None:
        self._pods: dict[str, WaitingPod] = {}

    def add(self, pod: PodInfo, waits: Mapping[str, float]) -> None:
        self._pods[pod.uid] = WaitingPod(pod, waits)

    def get(self, uid: str) -> WaitingPod | None:
        return self._pods.get(uid)

    def __iter__(self) -> Iterator[WaitingPod]:
        return iter(list(self._pods.values()))

    async def wait(self, pod: PodInfo) -> Status | None:
        """The outcome: None if the pod was not held, or is allowed."""
        waiting = self._pods.get(pod.uid)
        if waiting is None:
            return None
        try:
            return await waiting.wait()
        finally:
            self._pods.pop(pod.uid, None)
