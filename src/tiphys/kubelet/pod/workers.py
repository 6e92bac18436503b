"""Pod workers: one for each pod, which brings it up, takes it down, and cleans up after it, one step at a time.

The lifecycle is a table. A worker only ever moves forward:

    SYNC         the pod is to run              → TERMINATING when it is deleted, evicted, or has come to its end
    TERMINATING  its containers are stopped     → TERMINATED when nothing of it runs
    TERMINATED   its volumes, cgroups removed  → FINISHED when they are gone
    FINISHED     nothing is left to do          the last status stays until the API forgets the pod

Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.pods import Pod
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)


class WorkerPhase(Enum):
    SYNC = "sync"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FINISHED = "finished"


TRANSITIONS: dict[WorkerPhase, frozenset[WorkerPhase]] = {
    WorkerPhase.SYNC: frozenset((WorkerPhase.TERMINATING,)),
    WorkerPhase.TERMINATING: frozenset((WorkerPhase.TERMINATED,)),
    WorkerPhase.TERMINATED: frozenset((WorkerPhase.FINISHED,)),
    WorkerPhase.FINISHED: frozenset(),
}


_STEPS = {WorkerPhase.SYNC: "sync", WorkerPhase.TERMINATING: "kill", WorkerPhase.TERMINATED: "terminated"}
"""Steps as upstream's metrics name them."""


@dataclass(slots=True)
class Next:
    """What a step asks for: another step after some seconds (0: at once), or that the phase is done."""

    after: float = 60.0
    done: bool = False


@dataclass(slots=True)
class Termination:
    """Why and how a pod is stopped. ``ending`` is of a pod that the kubelet fails itself."""

    grace: int | None = None
    ending: Ending | None = None


class PodSyncer(Protocol):
    """What a worker does in each phase. A step may be repeated at any time, and must converge."""

    async def sync(self, pod: Pod) -> Next: ...

    async def sync_terminating(self, pod: Pod, termination: Termination) -> Next: ...

    async def sync_terminated(self, pod: Pod) -> Next: ...


class _Worker:
    def __init__(self, pod: Pod, seen_at: float) -> None:
        self.pod = pod
        self.seen_at = seen_at
        self.steps = 0
        self.phase = WorkerPhase.SYNC
        self.termination = Termination()
        self.wake = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        self.failures = 0
        self.step: asyncio.Task[Any] | None = None

    def move(self, phase: WorkerPhase) -> None:
        if phase is not self.phase:
            assert phase in TRANSITIONS[self.phase], f"{self.phase} → {phase}"
            self.phase = phase
            self.failures = 0
            self.wake.set()


class PodWorkers:
    """``finished(uid)`` is called when a pod is cleaned up."""

    def __init__(
        self,
        *,
        syncer: PodSyncer,
        clock: Clock,
        runner: Runner,
        finished: Callable[[str], None] | None = None,
        figures: KubeletFigures | None = None,
    ) -> None:
        self._syncer = syncer
        self._clock = clock
        self._runner = runner
        self._finished = finished
        self._figures = figures or KubeletFigures(clock)
        self._workers: dict[str, _Worker] = {}

    def update(self, pod: Pod) -> None:
        """The pod is new or has changed: see to it at once."""
        uid = pods.uid_of(pod)
        worker = self._workers.get(uid)
        if worker is None:
            worker = self._workers[uid] = _Worker(pod, self._clock.monotonic())
            worker.task = self._runner.spawn(self._run(uid, worker), f"pod {pods.key_of(pod)}")
        worker.pod = pod
        if pods.is_deleting(pod) or pods.is_terminal(pod):
            self._terminate(worker, Termination(pods.deletion_grace(pod)))
        worker.wake.set()

    def remember(self, pod: Pod) -> None:
        """Nothing to act on has changed; the next step uses the newer object."""
        if (worker := self._workers.get(pods.uid_of(pod))) is not None:
            worker.pod = pod

    def kill(self, pod: Pod, grace: int | None = None, ending: Ending | None = None) -> None:
        """Stop a pod, whatever the API says of it."""
        uid = pods.uid_of(pod)
        if uid not in self._workers:
            self.update(pod)
        self._terminate(self._workers[uid], Termination(grace, ending))

    def _terminate(self, worker: _Worker, termination: Termination) -> None:
        shorter = (
            worker.phase is WorkerPhase.TERMINATING
            and termination.grace is not None
            and (worker.termination.grace is None or termination.grace < worker.termination.grace)
        )
        begins = worker.phase is WorkerPhase.SYNC
        if begins:
            worker.termination = termination
            worker.move(WorkerPhase.TERMINATING)
        elif shorter:
            worker.termination.grace = termination.grace
        if (begins or shorter) and worker.step is not None:
            worker.step.cancel()  # start nothing more, wait for no image; or stop again, with less grace

    def poke(self, pod_uid: str) -> None:
        """Something about the pod has changed: take another step now."""
        if (worker := self._workers.get(pod_uid)) is not None:
            worker.wake.set()

    def forget(self, pod_uid: str) -> None:
        """The pod is gone from every source; drop a worker that has done its work."""
        worker = self._workers.get(pod_uid)
        if worker is not None and worker.phase is WorkerPhase.FINISHED:
            del self._workers[pod_uid]

    def phase(self, pod_uid: str) -> WorkerPhase | None:
        worker = self._workers.get(pod_uid)
        return worker.phase if worker else None

    def pod(self, pod_uid: str) -> Pod | None:
        worker = self._workers.get(pod_uid)
        return worker.pod if worker else None

    def seen_at(self, pod_uid: str) -> float | None:
        """When the pod was first seen, by the monotonic clock."""
        worker = self._workers.get(pod_uid)
        return worker.seen_at if worker else None

    def known(self) -> list[str]:
        return list(self._workers)

    def terminating(self, pod_uid: str) -> bool:
        worker = self._workers.get(pod_uid)
        return worker is not None and worker.phase is not WorkerPhase.SYNC

    def could_run(self, pod_uid: str) -> bool:
        """Whether containers of the pod may be running."""
        worker = self._workers.get(pod_uid)
        return worker is not None and worker.phase in (WorkerPhase.SYNC, WorkerPhase.TERMINATING)

    async def wait_finished(self, uids: Collection[str], seconds: float) -> set[str]:
        """Wait until the pods are cleaned up; returns those that are not by then."""
        tasks = {worker.task: uid for uid, worker in self._workers.items() if uid in uids and worker.task is not None}
        if not tasks:
            return set()
        _, late = await asyncio.wait(tasks, timeout=seconds)
        return {tasks[task] for task in late}

    async def _run(self, uid: str, worker: _Worker) -> None:
        while worker.phase is not WorkerPhase.FINISHED:
            worker.wake.clear()
            wait = await self._take_step(worker)
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await worker.wake.wait()
        if self._finished is not None:
            self._finished(uid)

    async def _take_step(self, worker: _Worker) -> float:
        """Take one step of the phase; gives the seconds until the next."""
        phase = worker.phase
        worker.step = asyncio.ensure_future(self._step(worker, phase))
        try:
            after: Next = await worker.step
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                worker.step.cancel()
                raise
            return 0.0  # the step alone was cancelled, to be taken again
        except Exception:
            # A pod that cannot be synced must not take the other pods' workers with it.
            worker.failures += 1
            after = Next(min(0.5 * 2**worker.failures, 60.0))
            log.exception("pod %s: %s failed; another try in %.0f s", pods.key_of(worker.pod), phase.value, after.after)
        else:
            worker.failures = 0
        finally:
            worker.step = None
        if after.done and worker.phase is phase:
            worker.move(next(iter(TRANSITIONS[phase])))
            return 0.0
        return after.after

    async def _step(self, worker: _Worker, phase: WorkerPhase) -> Next:
        kind = _STEPS[phase] if worker.steps else "create"
        worker.steps += 1
        with self._figures.step(kind):
            match phase:
                case WorkerPhase.SYNC:
                    return await self._syncer.sync(worker.pod)
                case WorkerPhase.TERMINATING:
                    return await self._syncer.sync_terminating(worker.pod, worker.termination)
                case _:
                    return await self._syncer.sync_terminated(worker.pod)
