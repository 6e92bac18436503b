"""Takes pods in: admits them, looks at the node again before it turns one away, and makes room for critical ones.

Anyone who waits reads the pod again afterwards: it may be gone by then, or be another.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from tiphys.api.object import Object
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
from tiphys.kubelet.quantities import value
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.status.generate import rejected_status
from tiphys.kubelet.status.manager import StatusManager
from tiphys.kubelet.topology.assigner import Assigner
from tiphys.kubelet.topology.failures import UNEXPECTED, AssignmentFailure
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_PREEMPTED = "Preempted in order to admit critical pod"
_DISRUPTED = "Pod was preempted by Kubelet to accommodate a critical pod."
_RECOVERY = "Unexpected error while attempting to recover from admission failure"
_GOING_DOWN = Rejection("NodeShutdown", "Pod was rejected as the node is shutting down.")


class PodIntake:
    """``current(uid)`` gives a pod as its source has it now, or None; ``pressures()`` the node's conditions;
    ``shutting_down()`` whether the machine is about to go down."""

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
        assigner: Assigner,
        pressures: Callable[[], Sequence[str]],
        current: Callable[[str], Pod | None],
        apparmor: bool,
        unsafe_sysctls: Sequence[str],
        shutting_down: Callable[[], bool],
    ) -> None:
        self._shutting_down = shutting_down
        self._client = client
        self._clock = clock
        self._runner = runner
        self._node = node
        self._node_name = node_name
        self._workers = workers
        self._status = status
        self._events = events
        self._allocations = allocations
        self._assigner = assigner
        self._pressures = pressures
        self._current = current
        self._apparmor = apparmor
        self._unsafe_sysctls = unsafe_sysctls
        self._deciding: Counter[str] = Counter()
        self._freed = asyncio.Event()

    def offer(self, pod: Pod) -> None:
        """A pod that has no worker: it gets one now or later, or fails with the reason why not."""
        uid = pods.uid_of(pod)
        if uid in self._deciding:
            return
        if self._assigner.concerns(self._allocations.applied(pod)):
            self._decide(uid, self._assign(pod))
        else:
            self._look(pod)

    def _look(self, pod: Pod) -> None:
        """Take the pod in, turn it away, or do what there is to do before that can be said."""
        uid, rejection = pods.uid_of(pod), self._check(pod)
        if rejection is None:
            self._accept(pod)
        elif rejection.reason == "NodeAffinity":
            self._decide(uid, self._look_again(uid))
        elif rejection.shortage and pods.is_critical(pod):
            self._decide(uid, self._make_room(pod, rejection))
        else:
            self._turn_away(pod, rejection)

    async def _assign(self, pod: Pod) -> None:
        """Give the pod its devices first, as upstream does; the rest is looked at as it is then."""
        uid = pods.uid_of(pod)
        failure: Rejection | None = admit_under_pressure(pod, self._pressures())
        if failure is None:
            try:
                await self._assigner.assign(self._allocations.applied(pod))
            except AssignmentFailure as error:
                failure = Rejection(error.reason, error.rejection)
        current = self._undecided(uid)
        if current is None:
            return
        if failure is not None:
            self._turn_away(current, failure)
        else:
            self._look(current)

    def deciding(self) -> Collection[str]:
        """Uids of the pods that are neither taken in nor turned away yet."""
        return self._deciding.keys()

    def freed(self) -> None:
        """A pod has ended: there may be room now."""
        self._freed.set()

    def others(self, pod: Pod) -> list[Pod]:
        """The pods that use resources of the node beside ``pod``, with what they were given."""
        known = ((self._workers.phase(uid), self._current(uid)) for uid in self._workers.known())
        return [
            self._allocations.applied(other)
            for phase, other in known
            if phase is not None
            and other is not None
            and pods.uid_of(other) != pods.uid_of(pod)
            and counts(other, phase)
        ]

    def _check(self, pod: Pod) -> Rejection | None:
        node = self._node.known
        if node is None:
            return None
        if under_pressure := admit_under_pressure(pod, self._pressures()):
            return under_pressure
        given = self._allocations.applied(pod)
        node = with_at_least(node, self._assigner.in_use(pod))
        others, sysctls = self.others(pod), self._unsafe_sysctls
        if rejection := admit(given, node, others, apparmor=self._apparmor, unsafe_sysctls=sysctls):
            return rejection
        return _GOING_DOWN if self._shutting_down() else None

    def _decide(self, uid: str, work: Coroutine[Any, Any, None]) -> None:
        """Go on in a task of the pod's own. One step may lead to another: the pod is undecided until the last ends."""
        self._deciding[uid] += 1
        self._runner.spawn(work, "admission").add_done_callback(lambda _: self._decided(uid))

    def _decided(self, uid: str) -> None:
        self._deciding[uid] -= 1
        if not self._deciding[uid]:
            del self._deciding[uid]

    def _undecided(self, uid: str) -> Pod | None:
        """The pod as it is now, if there is still something to decide."""
        pod = self._current(uid)
        if pod is None or pods.is_deleting(pod) or pods.is_terminal(pod) or self._workers.phase(uid) is not None:
            return None
        return pod

    def _settle(self, uid: str) -> None:
        """Take the pod in or turn it away, as it and the node are now."""
        pod = self._undecided(uid)
        if pod is None:
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
            self._turn_away(pod, Rejection(UNEXPECTED, message))
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


def counts(pod: Pod, phase: WorkerPhase) -> bool:
    """Whether a pod that its source still has, and whose worker is in a phase, takes room from new ones.

    One that the API has forgotten takes none, even while its containers end: its successor was scheduled because it
    was gone. Upstream has it so (``GetActivePods``).
    """
    match phase:
        case WorkerPhase.SYNC:
            return not pods.is_terminal(pod)
        case WorkerPhase.TERMINATING:
            return True
        case _:
            return False


def with_at_least(node: Object, amounts: Mapping[str, int]) -> Object:
    """The node with no fewer devices than pods have: they stay when their plugin does not answer."""
    status = node.get("status") or {}
    allocatable = status.get("allocatable") or {}
    more = {name: str(amount) for name, amount in amounts.items() if value(allocatable.get(name)) < amount}
    return {**node, "status": {**status, "allocatable": {**allocatable, **more}}} if more else node
