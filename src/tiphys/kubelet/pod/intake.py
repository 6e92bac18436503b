"""Takes pods in: admits them, looks at the node again before it turns one away, and makes room for critical ones.

Anyone who waits reads the pod again afterwards: it may be gone by then, or be another.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tiphys.client import errors
from tiphys.client.resources import NODES
from tiphys.client.rest import Client
from tiphys.controlkit.objects import timestamp
from tiphys.kubelet.node.agent import NodeAgent
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.admission import Rejection, admit, admit_under_pressure
from tiphys.kubelet.pod.allocation import Allocations
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.preemption import NoRoom, pods_to_preempt
from tiphys.kubelet.pod.workers import PodWorkers, WorkerPhase
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.status.generate import rejected_status
from tiphys.kubelet.status.manager import StatusManager
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_PREEMPTED = "Preempted in order to admit critical pod"
_DISRUPTED = "Pod was preempted by Kubelet to accommodate a critical pod."
_RECOVERY = "Unexpected error while attempting to recover from admission failure"


class PodIntake:
    """``current(uid)`` gives a pod as its source has it now, or None; ``pressures()`` the node's conditions."""

    def __init__(
        self,
        *,
        client: Client,
        clock: Clock,
        runner: Runner,
        node: NodeAgent,
        node_name: str,
        workers: PodWorkers,
        status: StatusManager,
        events: PodEvents,
        allocations: Allocations,
        pressures: Callable[[], Sequence[str]],
        current: Callable[[str], Pod | None],
        apparmor: bool,
        unsafe_sysctls: Sequence[str],
    ) -> None:
        self._client = client
        self._clock = clock
        self._runner = runner
        self._node = node
        self._node_name = node_name
        self._workers = workers
        self._status = status
        self._events = events
        self._allocations = allocations
        self._pressures = pressures
        self._current = current
        self._apparmor = apparmor
        self._unsafe_sysctls = unsafe_sysctls
        self._deciding: set[str] = set()
        self._freed = asyncio.Event()

    def offer(self, pod: Pod) -> None:
        """A pod that has no worker: it gets one now or later, or fails with the reason why not."""
        uid = pods.uid_of(pod)
        if uid in self._deciding:
            return
        rejection = self._check(pod)
        if rejection is None:
            self._accept(pod)
        elif rejection.reason == "NodeAffinity":
            self._decide(uid, self._look_again(uid))
        elif rejection.shortage and pods.is_critical(pod):
            self._decide(uid, self._make_room(pod, rejection))
        else:
            self._turn_away(pod, rejection)

    def freed(self) -> None:
        """A pod has ended: there may be room now."""
        self._freed.set()

    def others(self, pod: Pod) -> list[Pod]:
        """The pods that use resources of the node beside ``pod``, with what they were given."""
        others = (self._workers.pod(uid) for uid in self._workers.known() if self._workers.could_run(uid))
        return [
            self._allocations.applied(other)
            for other in others
            if other is not None and pods.uid_of(other) != pods.uid_of(pod) and not pods.is_terminal(other)
        ]

    def _check(self, pod: Pod) -> Rejection | None:
        node = self._node.known
        if node is None:
            return None
        if under_pressure := admit_under_pressure(pod, self._pressures()):
            return under_pressure
        given = self._allocations.applied(pod)
        return admit(given, node, self.others(pod), apparmor=self._apparmor, unsafe_sysctls=self._unsafe_sysctls)

    def _decide(self, uid: str, work: Coroutine[Any, Any, None]) -> None:
        self._deciding.add(uid)
        task = self._runner.spawn(work, "admission")
        task.add_done_callback(lambda _: self._deciding.discard(uid))

    def _settle(self, uid: str) -> None:
        """Take the pod in or turn it away, as it and the node are now."""
        pod = self._current(uid)
        if pod is None or pods.is_deleting(pod) or pods.is_terminal(pod) or self._workers.phase(uid) is not None:
            return
        rejection = self._check(pod)
        if rejection is None:
            self._accept(pod)
        else:
            self._turn_away(pod, rejection)

    def _accept(self, pod: Pod) -> None:
        """Record what an admitted pod is given. One that was admitted before keeps what it was given then."""
        try:
            self._allocations.admit(pod)
        except OSError as error:
            log.warning("cannot record what pod %s is given: %s", pods.key_of(pod), error)
        self._workers.update(pod)
        self._status.api_changed(pods.uid_of(pod))

    async def _look_again(self, uid: str) -> None:
        """The node's labels may be newer than what is known here: read them before failing the pod."""
        try:
            self._node.node = await self._client.get(NODES, self._node_name)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            log.warning("cannot read node %s: %s", self._node_name, error)
        self._settle(uid)

    async def _make_room(self, pod: Pod, rejection: Rejection) -> None:
        """End the pods that are in the way of a critical one, and wait until they have ended."""
        running = [other for other in self.others(pod) if self._workers.phase(pods.uid_of(other)) is WorkerPhase.SYNC]
        try:
            victims = pods_to_preempt(pod, running, rejection.shortage)
        except NoRoom as error:
            message = f"{_RECOVERY}: preemption: error finding a set of pods to preempt: {error}"
            self._turn_away(pod, Rejection("UnexpectedAdmissionError", message))
            return
        for victim in victims:
            log.info("preempting pod %s for pod %s", pods.key_of(victim), pods.key_of(pod))
            self._events.pod(victim, "Warning", "Preempting", _PREEMPTED)
            self._workers.kill(victim, None, Ending("Preempting", _PREEMPTED, _DISRUPTED))
        while any(self._workers.could_run(pods.uid_of(victim)) for victim in victims):
            self._freed.clear()
            await self._freed.wait()
        self._settle(pods.uid_of(pod))

    def _turn_away(self, pod: Pod, rejection: Rejection) -> None:
        self._events.pod(pod, "Warning", rejection.reason, rejection.message)
        now = timestamp(self._clock.now())
        self._status.set(pod, rejected_status(pod, rejection.reason, rejection.message, now))
