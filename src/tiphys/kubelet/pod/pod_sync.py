"""What a pod worker does: one pass over a pod, from its status to its containers. Each pass may be repeated.

``sync`` reads like the life of a pod on its node: status, network, cgroups, folders, volumes, credentials, probes,
containers. Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import SECRETS
from tiphys.controlkit.objects import parse_time, timestamp
from tiphys.kubelet.api_objects import ApiObjects
from tiphys.kubelet.cgroups.manager import PodCgroups
from tiphys.kubelet.container.images import ImageManager
from tiphys.kubelet.container.killer import Killer
from tiphys.kubelet.dra.manager import ClaimManager, ClaimsNotPrepared
from tiphys.kubelet.figures import KubeletFigures
from tiphys.kubelet.pod import pods
from tiphys.kubelet.pod.actions import compute_actions
from tiphys.kubelet.pod.allocation import Allocations
from tiphys.kubelet.pod.ending import Ending
from tiphys.kubelet.pod.observed import PodStatus
from tiphys.kubelet.pod.pod_runtime import Applied, PodRuntime, PodWork, ResizeFailure, SandboxFailure
from tiphys.kubelet.pod.pods import Pod
from tiphys.kubelet.pod.resize import Wanted, changed_resources
from tiphys.kubelet.pod.resizer import Resizer
from tiphys.kubelet.pod.workers import Next, Termination
from tiphys.kubelet.probes.manager import ProbeManager
from tiphys.kubelet.recorder import PodEvents
from tiphys.kubelet.runtime.service import RuntimeFailure
from tiphys.kubelet.settings import NodeSettings
from tiphys.kubelet.status.containers import Reason
from tiphys.kubelet.status.generate import StatusContext, generate_status, rejected_status
from tiphys.kubelet.status.manager import StatusManager
from tiphys.kubelet.tokens import TokenManager
from tiphys.kubelet.topology.assigner import Assigner
from tiphys.kubelet.volumes.claims import MountedVolume
from tiphys.kubelet.volumes.manager import TooManyVolumes, VolumeFailure, VolumeManager
from tiphys.runtime.backoff import KeyedBackoff
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

RESYNC = 60.0
_RETRY = 10.0
_RETRY_SOON = 1.0
_LEAST_PATIENCE = 10.0
NETWORK_NOT_READY = "network is not ready"
DEADLINE_EXCEEDED = "DeadlineExceeded"
_PAST_DEADLINE = "Pod was active on the node longer than the specified deadline"


class MirrorPods(Protocol):
    async def ensure(self, pod: Pod) -> None: ...


class PodSync:
    """Implements ``workers.PodSyncer``. ``network_problem`` says why pods cannot have a network now, or ``""``."""

    def __init__(
        self,
        *,
        settings: NodeSettings,
        clock: Clock,
        events: PodEvents,
        runtime: PodRuntime,
        killer: Killer,
        images: ImageManager,
        volumes: VolumeManager,
        objects: ApiObjects,
        tokens: TokenManager,
        cgroups: PodCgroups,
        probes: ProbeManager,
        status: StatusManager,
        backoff: KeyedBackoff,
        mirrors: MirrorPods,
        network_problem: Callable[[], str],
        resources: Wanted,
        resizer: Resizer,
        allocations: Allocations,
        runtime_name: Callable[[], str],
        figures: KubeletFigures,
        seen_at: Callable[[str], float | None],
        assigner: Assigner,
        claims: ClaimManager,
        rng: random.Random | None = None,
        resync: float = RESYNC,
    ) -> None:
        """``resync``: seconds after which a pod of which nothing is heard is looked at again, or half as long again."""
        self._resync = resync
        self._settings = settings
        self._clock = clock
        self._events = events
        self._runtime = runtime
        self._killer = killer
        self._images = images
        self._volumes = volumes
        self._objects = objects
        self._tokens = tokens
        self._cgroups = cgroups
        self._probes = probes
        self._status = status
        self._backoff = backoff
        self._mirrors = mirrors
        self._network_problem = network_problem
        self._resources = resources
        self._resizer = resizer
        self._allocations = allocations
        self._runtime_name = runtime_name
        self._figures = figures
        self._seen_at = seen_at
        self._assigner = assigner
        self._claims = claims
        self._rng = rng or random.Random()
        self._reasons: dict[str, dict[str, Reason]] = {}
        self._mount_failures: dict[str, int] = {}

    # A pod that is to run.

    async def sync(self, pod: Pod) -> Next:
        """One pass: report the status, prepare volumes, start what should run. Returns when to run again."""
        try:
            observed = await self._runtime.observe(pods.uid_of(pod))
        except RuntimeFailure as error:
            self._events.pod(pod, "Warning", "FailedSync", f"error determining status: {error.raw}")
            return Next(_RETRY_SOON)
        pod = self._resizer.settle(pod)
        self._resizer.observe(pod, differs=self._differs(pod, observed), before=self._before(pod))
        deadline = self._deadline(pod)
        status = self._generate(pod, observed)
        self._count_start(pod, status)
        self._status.set(pod, status)
        if status["phase"] in ("Succeeded", "Failed"):
            return Next(done=True)
        if not pods.host_network(pod) and (problem := self._network_problem()):
            self._events.pod(pod, "Warning", "NetworkNotReady", f"{NETWORK_NOT_READY}: {problem}")
            return Next(_RETRY_SOON)
        if pods.is_static(pod):
            await self._mirrors.ensure(pod)
        try:
            volumes = await self._prepare(pod)
        except TooManyVolumes as error:
            return self._reject(pod, "VolumeAttachmentLimitExceeded", str(error))
        if volumes is None:
            return Next(self._mount_retry(pod))
        self._probes.add(pod)
        self._probes.trigger(pods.uid_of(pod))
        return await self._run_containers(pod, observed, volumes, deadline)

    def _reject(self, pod: Pod, reason: str, message: str) -> Next:
        """Nothing of the pod runs yet, and nothing will: the node cannot have it."""
        self._events.pod(pod, "Warning", reason, message)
        self._status.set(pod, rejected_status(pod, reason, message, timestamp(self._clock.now())))
        return Next(done=True)

    def _count_start(self, pod: Pod, status: Object) -> None:
        uid = pods.uid_of(pod)
        before, seen_at = self._status.get(uid), self._seen_at(uid)
        waited = before is None or before["phase"] == "Pending"
        if waited and status["phase"] == "Running" and seen_at is not None:
            self._figures.started(self._clock.monotonic() - seen_at)

    async def _prepare(self, pod: Pod) -> dict[str, MountedVolume] | None:
        """Cgroup, folders and volumes; None if they are not available yet; events say why.

        Raises ``TooManyVolumes``.
        """
        uid = pods.uid_of(pod)
        try:
            await self._cgroups.ensure(pod, quota=not self._assigner.has_processors(uid))
        except OSError as error:
            message = f"unable to ensure pod container exists: {error}"
            self._events.pod(pod, "Warning", "FailedCreatePodContainer", message)
            return None
        try:
            self._settings.pod_dir(uid).mkdir(mode=0o750, parents=True, exist_ok=True)
        except OSError as error:
            self._events.pod(pod, "Warning", "Failed", f"error making pod data directories: {error}")
            return None
        try:
            volumes = await self._volumes.mount(pod)
        except VolumeFailure as failure:
            for message in failure.failures.values():
                self._events.pod(pod, "Warning", "FailedMount", message)
            return None
        self._mount_failures.pop(uid, None)
        return volumes

    def _mount_retry(self, pod: Pod) -> float:
        """Half a second, doubled up to two minutes."""
        uid = pods.uid_of(pod)
        count = self._mount_failures[uid] = self._mount_failures.get(uid, -1) + 1
        return min(0.5 * 2.0**count, 122.0)

    async def _run_containers(
        self, pod: Pod, observed: PodStatus, volumes: dict[str, MountedVolume], deadline: float | None
    ) -> Next:
        """Carry out what the pod needs now; returns when to look again."""
        actions = compute_actions(pod, observed, self._probes.result, self._resources)
        if actions.nothing:
            return Next(self._next_look(pod, None, deadline))
        secrets = await self.pull_secrets(pod)
        work = PodWork(pod, observed, volumes, secrets, self._sandbox_ready)
        try:
            applied = await self._runtime.apply(actions, work)
        except ResizeFailure as error:
            self._resizer.failed(pod, str(error))
            self._status.set(pod, self._generate(pod, work.observed))
            return Next(_RETRY)
        except (RuntimeFailure, SandboxFailure) as error:
            log.warning("pod %s: %s", pods.key_of(pod), error)
            return Next(_RETRY)
        self._note(pod, applied)
        if applied.changed:
            return Next(0)  # look at once at what has come of it
        self._status.set(pod, self._generate(pod, work.observed))
        return Next(self._next_look(pod, applied.retry_after, deadline))

    def _note(self, pod: Pod, applied: Applied) -> None:
        reasons = self._reasons.setdefault(pods.uid_of(pod), {})
        for name, reason in applied.reasons.items():
            if reason is None:
                reasons.pop(name, None)
            else:
                reasons[name] = reason

    def _next_look(self, pod: Pod, retry: float | None, deadline: float | None) -> float:
        times = [self._resync * (1 + 0.5 * self._rng.random())]
        if retry is not None:
            times.append(max(retry, 0.01))
        if deadline is not None:
            times.append(max(deadline, 0.01))
        if (renewal := self._tokens.next_renewal(pods.uid_of(pod))) is not None:
            times.append(max(renewal - self._clock.now(), 1.0))
        return min(times)

    def _deadline(self, pod: Pod) -> float | None:
        """Seconds until activeDeadlineSeconds is over, counted from the pod's start; None if there is no limit."""
        limit = pods.spec_of(pod).get("activeDeadlineSeconds")
        if limit is None:
            return None
        started = parse_time(self._before(pod).get("startTime"))
        return float(limit) - (self._clock.now() - started if started is not None else 0.0)

    def _sandbox_ready(self, pod: Pod, observed: PodStatus) -> None:
        self._status.set(pod, self._generate(pod, observed))

    def _before(self, pod: Pod) -> Object:
        """The status last known: ours, or what the API has."""
        return self._status.get(pods.uid_of(pod)) or pod.get("status") or {}

    def _expired(self, pod: Pod) -> Ending | None:
        """The pod fails by its deadline, however its containers end then. One that had ended before does not."""
        deadline, before = self._deadline(pod), self._before(pod)
        ended = before.get("phase") in ("Succeeded", "Failed") and before.get("reason") != DEADLINE_EXCEEDED
        return (
            Ending(DEADLINE_EXCEEDED, _PAST_DEADLINE) if deadline is not None and deadline <= 0 and not ended else None
        )

    def _generate(
        self, pod: Pod, observed: PodStatus, *, terminal: bool = False, ending: Ending | None = None
    ) -> Object:
        uid, before = pods.uid_of(pod), self._before(pod)
        ending = ending or self._expired(pod)
        context = StatusContext(
            before=before,
            now=timestamp(self._clock.now()),
            host_ips=self._settings.host_ips,
            runtime_name=self._runtime_name(),
            reasons=self._reasons.get(uid, {}),
            probe=self._probes.result,
            was_ready=lambda name, _: self._was_ready(before, name),
            terminal=terminal,
            ending=ending,
            resized=lambda spec, run: not changed_resources(self._resources(pod, spec), run),
            resize=self._resizer.state(uid),
        )
        status = generate_status(pod, observed, context)
        self._assigner.show_health(pod, status)
        return status

    def _differs(self, pod: Pod, observed: PodStatus) -> bool:
        """Whether a running container has other resources than the pod was given."""
        specs = {spec["name"]: spec for _, spec in pods.all_containers(pod)}
        return any(
            run.running and run.name in specs and changed_resources(self._resources(pod, specs[run.name]), run)
            for run in observed.containers
        )

    def _was_ready(self, before: Object, name: str) -> bool | None:
        """What the API said of a container that is older than this kubelet, until its first probe says more."""
        for status in (*(before.get("containerStatuses") or []), *(before.get("initContainerStatuses") or [])):
            running = (status.get("state") or {}).get("running")
            if status["name"] == name and running and self._probes.older_than_kubelet(running.get("startedAt") or ""):
                return bool(status.get("ready"))
        return None

    async def pull_secrets(self, pod: Pod) -> list[Object]:
        """The Secrets that the pod's ``imagePullSecrets`` name, as far as they can be had."""
        secrets = []
        for reference in pods.spec_of(pod).get("imagePullSecrets") or []:
            name = reference.get("name", "")
            try:
                secret = await self._objects.get(pods.uid_of(pod), SECRETS, pods.namespace_of(pod), name)
            except (errors.ApiError, ConnectionError, TimeoutError) as error:
                log.warning("cannot read the image pull secret %s/%s: %s", pods.namespace_of(pod), name, error)
                continue
            if secret is not None:
                secrets.append(secret)
            else:
                hint = "attempting to pull the image may not succeed."
                message = f"Unable to retrieve some image pull secrets ({name}); {hint}"
                self._events.pod(pod, "Warning", "FailedToRetrieveImagePullSecret", message)
        return secrets

    # A pod that is to end.

    async def sync_terminating(self, pod: Pod, termination: Termination) -> Next:
        """One pass over a pod that must stop: kill what runs. Done when the runtime shows nothing running."""
        uid, pod = pods.uid_of(pod), self._allocations.applied(pod)
        try:
            observed = await self._runtime.observe(uid)
            if pods.is_terminal(pod) and not observed.sandboxes and not observed.containers:
                # It has ended before, or was never taken in: its status says how, and nothing is known to add.
                self._probes.remove(uid)
                return Next(done=True)
            self._status.set(pod, self._generate(pod, observed, ending=termination.ending))
            self._probes.stop_liveness_and_startup(uid)
            with self._probes.changes(uid) as changed:
                reporting = asyncio.ensure_future(self._report_readiness(pod, termination, changed))
                try:
                    await self._kill(pod, observed, termination)
                finally:
                    reporting.cancel()
                    await asyncio.gather(reporting, return_exceptions=True)
            self._probes.remove(uid)
            after = await self._runtime.observe(uid)
        except RuntimeFailure as error:
            self._events.pod(pod, "Warning", "FailedKillPod", f"error killing pod: {error.raw}")
            return Next(_RETRY_SOON)
        if after.running:
            log.warning("pod %s: containers still run after they were stopped", pods.key_of(pod))
            return Next(_RETRY_SOON)
        stopped = PodStatus(uid, after.name, after.namespace, observed.ips, after.sandboxes, after.containers)
        self._status.set(pod, self._generate(pod, stopped, terminal=True, ending=termination.ending))
        return Next(done=True)

    async def _report_readiness(self, pod: Pod, termination: Termination, changed: asyncio.Event) -> None:
        """A pod that ends may serve to the last second of its grace, or not: its readiness is probed and reported."""
        while True:
            await changed.wait()
            changed.clear()
            try:
                observed = await self._runtime.observe(pods.uid_of(pod))
            except RuntimeFailure as error:
                log.warning("pod %s: cannot report its readiness while it ends: %s", pods.key_of(pod), error)
                continue
            self._status.set(pod, self._generate(pod, observed, ending=termination.ending))

    async def _kill(self, pod: Pod, observed: PodStatus, termination: Termination) -> None:
        """Stop the pod; if the kubelet ends it itself and that takes far longer than its grace, say so."""
        if termination.ending is None:
            await self._killer.kill_pod(pod, observed, termination.grace)
            return
        grace = pods.termination_grace(pod) if termination.grace is None else termination.grace
        late = asyncio.ensure_future(self._clock.sleep(max(grace * 1.5, _LEAST_PATIENCE)))
        killing = asyncio.ensure_future(self._killer.kill_pod(pod, observed, termination.grace))
        try:
            await asyncio.wait((late, killing), return_when=asyncio.FIRST_COMPLETED)
            if not killing.done():
                message = "Container runtime did not kill the pod within specified grace period."
                self._events.pod(pod, "Warning", "ExceededGracePeriod", message)
            await killing
        finally:
            for task in (late, killing):
                task.cancel()
            await asyncio.gather(late, killing, return_exceptions=True)

    async def sync_terminated(self, pod: Pod) -> Next:
        """Nothing runs any more: remove volumes and cgroups, and release the pod for deletion."""
        uid = pods.uid_of(pod)
        try:
            await self._cgroups.remove(pod)  # first what runs, then what it uses
            await self._claims.unprepare(uid)
            await self._volumes.unmount(uid)
        except (OSError, ClaimsNotPrepared) as error:
            log.warning("pod %s: cannot clean up yet: %s", pods.key_of(pod), error)
            return Next(_RETRY_SOON)
        self._runtime.forget(uid)
        self._objects.release(uid)
        self._tokens.release(uid)
        self._images.release(uid)
        self._backoff.forget(uid)
        self._resizer.forget(uid)
        self._reasons.pop(uid, None)
        self._mount_failures.pop(uid, None)
        self._status.finish(pod)
        return Next(done=True)
