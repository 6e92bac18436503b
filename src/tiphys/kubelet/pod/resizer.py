"""Resizes of running pods: gives a pod what it asks for once the node can, and keeps what it was given until then.

A resize is *pending* while the node cannot give it, then *in progress* until the runtime shows it. Source: KEP-1287.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.allocation import Allocations, summary
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.resize import ResizeProblem
from tiphys.kubelet.recorder import PodEvents

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResizeState:
    """What a pod's conditions say of its resize. ``generation`` is the one that requested what is in progress."""

    problem: ResizeProblem | None = None
    in_progress: bool = False
    error: str = ""
    generation: int | None = None


_NONE = ResizeState()


class Resizer:
    """``problem(pod)`` says why the node cannot give a pod what it requests, or None."""

    def __init__(
        self, allocations: Allocations, problem: Callable[[Pod], ResizeProblem | None], events: PodEvents
    ) -> None:
        self._allocations = allocations
        self._problem = problem
        self._events = events
        self._pending: dict[str, tuple[ResizeProblem, int | None]] = {}
        self._running: dict[str, tuple[int | None, str]] = {}

    def settle(self, pod: Pod) -> Pod:
        """The pod with what it has: with what it asks for, if that is so already or the node can give it now."""
        given = self._allocations.applied(pod)
        uid, generation = pods.uid_of(pod), pod["metadata"].get("generation")
        if given is pod:
            self._pending.pop(uid, None)
            return pod
        problem = self._problem(pod)
        if problem is not None:
            if self._pending.get(uid) != (problem, generation):
                text = f"Pod resize {problem.reason}: {summary(pod, problem.message)}"
                self._events.pod(pod, "Warning", f"Resize{problem.reason}", text)
            self._pending[uid] = (problem, generation)
            return given
        try:
            self._allocations.give(pod)
        except OSError as error:
            log.warning("cannot record what pod %s is given: %s", pods.key_of(pod), error)
            return given
        self._pending.pop(uid, None)
        self._running[uid] = (generation, "")
        self._events.pod(pod, "Normal", "ResizeStarted", f"Pod resize started: {summary(pod)}")
        return pod

    def observe(self, pod: Pod, *, differs: bool, before: Object) -> None:
        """Whether running containers still differ from what the pod was given. ``before`` is the status last sent."""
        uid = pods.uid_of(pod)
        if differs and uid not in self._running:  # a resize that another run of this kubelet has begun
            for condition in before.get("conditions") or []:
                if condition["type"] == "PodResizeInProgress":
                    self._running[uid] = (condition.get("observedGeneration"), "")
        if not differs and uid in self._running:
            del self._running[uid]
            self._events.pod(pod, "Normal", "ResizeCompleted", f"Pod resize completed: {summary(pod)}")

    def failed(self, pod: Pod, message: str) -> None:
        """The runtime did not do it."""
        uid = pods.uid_of(pod)
        generation, known = self._running.get(uid, (pod["metadata"].get("generation"), ""))
        self._running[uid] = (generation, message)
        if known != message:
            self._events.pod(pod, "Warning", "ResizeError", f"Pod resize error: {summary(pod, message)}")

    def state(self, uid: str) -> ResizeState:
        if uid not in self._pending and uid not in self._running:
            return _NONE
        problem = self._pending[uid][0] if uid in self._pending else None
        generation, error = self._running.get(uid, (None, ""))
        return ResizeState(problem, uid in self._running, error, generation)

    def waiting(self) -> list[str]:
        """Uids of the pods whose resize waits for room."""
        return list(self._pending)

    def forget(self, uid: str) -> None:
        self._pending.pop(uid, None)
        self._running.pop(uid, None)
        self._allocations.forget(uid)
