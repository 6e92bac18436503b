"""One worker for each probe of each container: waits, probes, counts, and reports when a result changes.

The count to the threshold is a small pure class (``Threshold``). Results are kept by the id of the container that was
probed, so a new run of a container starts without any. Source:
https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tiphys.api.object import Object
from tiphys.controlkit.objects import parse_time
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import Probe
from tiphys.kubelet.pod.pods import ContainerSpec, Pod
from tiphys.kubelet.pod.restarts import restarts_after_exit
from tiphys.kubelet.probes.outcome import Outcome, ProbeError
from tiphys.kubelet.probes.prober import Prober
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.status.containers import container_id
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)

_FIELDS = {
    Probe.STARTUP: "startupProbe",
    Probe.READINESS: "readinessProbe",
    Probe.LIVENESS: "livenessProbe",
}
_TITLES = {Probe.STARTUP: "Startup", Probe.READINESS: "Readiness", Probe.LIVENESS: "Liveness"}
_RETRIES = 3
_RESTART_GRACE = 10.0
"""Containers that were started this long before the kubelet count as older than it."""


@dataclass(slots=True)
class Threshold:
    """Counts results in a row."""

    failures: int = 3
    successes: int = 1
    last: bool | None = None
    run: int = 0

    def note(self, *, passed: bool) -> bool:
        """Count a result; gives whether it stands by now."""
        self.run = self.run + 1 if passed == self.last else 1
        self.last = passed
        return self.run >= (self.successes if passed else self.failures)

    def reset(self) -> None:
        self.last, self.run = None, 0


class ProbeManager:
    """``status(uid)`` gives a pod's newest status; ``changed(uid)`` is called when a result changes."""

    def __init__(
        self,
        *,
        prober: Prober,
        clock: Clock,
        runner: Runner,
        events: PodEvents,
        status: Callable[[str], Object | None],
        changed: Callable[[str], None],
        rng: random.Random | None = None,
    ) -> None:
        self._prober = prober
        self._clock = clock
        self._runner = runner
        self._events = events
        self._status = status
        self._changed = changed
        self._rng = rng or random.Random()
        self._started = clock.now()
        self._results: dict[tuple[Probe, str], bool] = {}
        self._workers: dict[tuple[str, str, Probe], _Worker] = {}
        self._watched: dict[str, asyncio.Event] = {}
        self.counts: dict[tuple[str, str, str, str, str], int] = {}
        """Probes so far, by namespace, pod, container, kind of probe and result."""

    def result(self, probe: Probe, runtime_id: str) -> bool | None:
        """The standing result for a container, or None."""
        return self._results.get((probe, runtime_id))

    def older_than_kubelet(self, started_at: str) -> bool:
        begun = parse_time(started_at)
        return begun is not None and begun < self._started - _RESTART_GRACE

    def add(self, pod: Pod) -> None:
        """Probe every container of the pod that wants it; repeats are no error, and bring the pod up to date."""
        sidecars = [c for c in pods.init_containers(pod) if pods.is_sidecar(c)]
        for container in (*pods.containers(pod), *sidecars):
            for probe, field in _FIELDS.items():
                if spec := container.get(field):
                    self._add(pod, container, probe, spec)

    def _add(self, pod: Pod, container: ContainerSpec, probe: Probe, spec: Object) -> None:
        key = (pods.uid_of(pod), container["name"], probe)
        if worker := self._workers.get(key):
            worker.pod = pod
            return
        worker = _Worker(manager=self, pod=pod, container=container, probe=probe, spec=spec)
        self._workers[key] = worker
        worker.task = self._runner.spawn(worker.run(), f"{probe.value} probe of {pods.key_of(pod)}/{container['name']}")
        worker.task.add_done_callback(lambda _: self._drop(key, worker))

    def _drop(self, key: tuple[str, str, Probe], worker: _Worker) -> None:
        if self._workers.get(key) is worker:
            del self._workers[key]
            if worker.runtime_id:
                self._results.pop((worker.probe, worker.runtime_id), None)

    def trigger(self, pod_uid: str) -> None:
        """Probe at once: something about the pod has changed."""
        for (uid, _, _), worker in self._workers.items():
            if uid == pod_uid:
                worker.wake.set()

    def stop_liveness_and_startup(self, pod_uid: str) -> None:
        self._stop(pod_uid, (Probe.LIVENESS, Probe.STARTUP))

    def remove(self, pod_uid: str) -> None:
        self._stop(pod_uid, tuple(Probe))

    def _stop(self, pod_uid: str, kinds: tuple[Probe, ...]) -> None:
        for (uid, _, probe), worker in list(self._workers.items()):
            if uid == pod_uid and probe in kinds and worker.task is not None:
                worker.task.cancel()

    def set_result(self, pod_uid: str, probe: Probe, runtime_id: str, *, passed: bool) -> None:
        if self._results.get((probe, runtime_id)) is not passed:
            self._results[(probe, runtime_id)] = passed
            self._changed(pod_uid)
            if pod_uid in self._watched:
                self._watched[pod_uid].set()

    @contextlib.contextmanager
    def changes(self, pod_uid: str) -> Iterator[asyncio.Event]:
        """An event that is set when a result of the pod's changes, for one who waits for something else meanwhile."""
        self._watched[pod_uid] = asyncio.Event()
        try:
            yield self._watched[pod_uid]
        finally:
            del self._watched[pod_uid]


class _Worker:
    """The loop of one probe of one container."""

    def __init__(
        self, *, manager: ProbeManager, pod: Pod, container: ContainerSpec, probe: Probe, spec: Object
    ) -> None:
        self.pod = pod
        self.probe = probe
        self.runtime_id = ""
        self.wake = asyncio.Event()
        self.task: asyncio.Task[Any] | None = None
        self._manager = manager
        self._container = container
        self._spec = spec
        self._threshold = Threshold(int(spec.get("failureThreshold") or 3), int(spec.get("successThreshold") or 1))
        self._on_hold = False
        self._period = float(spec.get("periodSeconds") or 10)

    async def run(self) -> None:
        manager = self._manager
        if manager._clock.now() - manager._started < self._period and self._runs_already():
            # A kubelet that has just started finds many containers: spread their probes.
            await manager._clock.sleep(manager._rng.random() * self._period)
        while await self._once_contained():
            self.wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait()):
                    await self.wake.wait()

    def _wait(self) -> float:
        """Until the next probe: a period, or less if the container's initial delay ends before."""
        status = self._container_status()
        running = ((status or {}).get("state") or {}).get("running")
        if running and not self._threshold.run:
            begun = parse_time(running.get("startedAt")) or 0.0
            left = begun + float(self._spec.get("initialDelaySeconds") or 0) - self._manager._clock.now()
            if 0 < left < self._period:
                return left
        return self._period

    def _runs_already(self) -> bool:
        running = ((self._container_status() or {}).get("state") or {}).get("running") or {}
        return self._manager.older_than_kubelet(running.get("startedAt") or "")

    def _container_status(self) -> Object | None:
        status = self._manager._status(pods.uid_of(self.pod)) or {}
        statuses = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        return next((s for s in statuses if s["name"] == self._container["name"] and s.get("containerID")), None)

    async def _once_contained(self) -> bool:
        """A probe that fails by an error of our own leaves the standing result, and is made again."""
        try:
            return await self._once()
        except Exception:
            log.exception("the %s probe of %s failed to be made", self.probe.value, pods.key_of(self.pod))
            return True

    async def _once(self) -> bool:
        """Probe once, if it is time; gives whether to continue."""
        manager, uid = self._manager, pods.uid_of(self.pod)
        of_pod = manager._status(uid)
        if of_pod is None:
            return True
        if of_pod.get("phase") in ("Failed", "Succeeded"):
            return False
        status = self._container_status()
        if status is None:
            return True
        running = (status.get("state") or {}).get("running")
        self._note_container(status, running)
        if self._on_hold:
            return True
        if not running:
            return self._not_running(status)
        if pods.is_deleting(self.pod) and self.probe is not Probe.READINESS:
            manager.set_result(uid, self.probe, self.runtime_id, passed=True)
            return False
        begun = parse_time(running.get("startedAt")) or 0.0
        if manager._clock.now() - begun < float(self._spec.get("initialDelaySeconds") or 0):
            return True
        if bool(status.get("started")) == (self.probe is Probe.STARTUP):
            return True  # a startup probe is done once started, the others wait for it
        passed = await self._probe(of_pod)
        if passed is None or not self._threshold.note(passed=passed):
            return True
        manager.set_result(uid, self.probe, self.runtime_id, passed=passed)
        if self.probe is Probe.STARTUP or (self.probe is Probe.LIVENESS and not passed):
            self._on_hold = True  # until a new run of the container
            self._threshold.reset()
        return True

    def _note_container(self, status: Object, running: Object | None) -> None:
        """Start over for a new run of the container."""
        runtime_id = container_id(status)
        if runtime_id == self.runtime_id:
            return
        manager = self._manager
        if self.runtime_id:
            manager._results.pop((self.probe, self.runtime_id), None)
        self.runtime_id = runtime_id
        self._on_hold = False
        self._threshold.reset()
        adopted = bool(running) and manager.older_than_kubelet((running or {}).get("startedAt") or "")
        was_started = adopted and self.probe is Probe.STARTUP and bool(status.get("started"))
        if self.probe is Probe.LIVENESS or was_started:
            manager._results[(self.probe, runtime_id)] = True

    def _not_running(self, status: Object) -> bool:
        if self.runtime_id and self.probe is Probe.READINESS:
            self._manager.set_result(pods.uid_of(self.pod), self.probe, self.runtime_id, passed=False)
        ended = (status.get("state") or {}).get("terminated")
        return ended is None or restarts_after_exit(self.pod, self._container, int(ended.get("exitCode") or 0))

    async def _probe(self, of_pod: Object) -> bool | None:
        """Whether the container passed; None if the probe could not be carried out."""
        title, name, manager = _TITLES[self.probe], self._container["name"], self._manager
        problem = ""
        for _ in range(_RETRIES):
            try:
                probed = await manager._prober.run(
                    self._spec, self._container, self.runtime_id, of_pod.get("podIP") or ""
                )
            except ProbeError as error:
                problem = str(error)
                continue
            if probed.outcome is Outcome.WARNING:
                manager._events.container(
                    self.pod, name, "Warning", "ProbeWarning", f"{title} probe warning: {probed.output}"
                )
            if probed.outcome is Outcome.FAILURE:
                manager._events.container(
                    self.pod, name, "Warning", "Unhealthy", f"{title} probe failed: {probed.output}"
                )
            passed = probed.outcome in (Outcome.SUCCESS, Outcome.WARNING)
            self._count("successful" if passed else "failed")
            return passed
        self._count("unknown")
        message = f"{title} probe errored and resulted in unknown state: {problem}"
        manager._events.container(self.pod, name, "Warning", "Unhealthy", message)
        return None

    def _count(self, result: str) -> None:
        key = (
            pods.namespace_of(self.pod),
            pods.name_of(self.pod),
            self._container["name"],
            _TITLES[self.probe],
            result,
        )
        self._manager.counts[key] = self._manager.counts.get(key, 0) + 1
