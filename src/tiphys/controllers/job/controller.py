"""The job controller's I/O.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import JOBS, PODS
from tiphys.client.rest import STRATEGIC_MERGE
from tiphys.controlkit import pods as podkit
from tiphys.controlkit.adoption import Claimer, Owner
from tiphys.controlkit.consistency import Consistency
from tiphys.controlkit.controller import Result
from tiphys.controlkit.expectations import Expectations
from tiphys.controlkit.objects import (
    controller_of,
    copy,
    generation_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    timestamp,
    uid_of,
)
from tiphys.controlkit.podcontrol import PodControl, namespace_is_terminating, slow_start
from tiphys.controlkit.queue import RateLimiter
from tiphys.controlkit.selectors import label_selector
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.job import policies, state
from tiphys.controllers.job.podstate import (
    FINALIZER,
    has_finalizer,
    is_indexed,
    is_suspended,
    limits_per_index,
    replaces_only_failed,
)
from tiphys.controllers.job.podtemplate import new_pod
from tiphys.controllers.job.state import Tally, make_condition
from tiphys.runtime.tasks import run_all

BATCH_PERIOD = 1.0
"""Seconds for which events of pods are gathered before their Job is looked at."""
BURST = 500
OWN_NAME = "kubernetes.io/job-controller"

_REMOVE_FINALIZER = {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}


class JobController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("job-controller")
        self._control = PodControl(context.client, self._recorder)
        self._expectations = Expectations(context.clock)
        self._consistency = Consistency(context.clock)
        self._removed: dict[str, set[str]] = {}
        self._backoffs: dict[str, policies.Backoff] = {}
        self._ended: set[str] = set()
        self._jobs = context.informers.informer(JOBS)
        self._pods = context.informers.informer(PODS)
        podkit.index_by_owner(self._pods)
        workers = context.config.concurrent_job_syncs
        limiter: RateLimiter[str] = RateLimiter(context.clock, base=1.0, maximum=60.0, rate=None)
        self._controller = context.controller("job", self.reconcile, workers=workers, limiter=limiter)
        self._orphans = context.controller("job_orphan_pod", self.release_orphan)
        self._controller.handles(
            self._jobs, Callbacks(added=self._job_added, updated=self._job_updated, deleted=self._job_deleted)
        )
        self._controller.handles(self._pods, _PodHandler(self))

    async def run(self) -> None:
        await run_all(self._controller.run, self._orphans.run)

    # Events

    def _job_added(self, job: Object) -> None:
        self._controller.queue.add(key_of(job))

    def _job_updated(self, old: Object, new: Object) -> None:
        if state.is_finished(new):
            self._release_pods(new)
        elif generation_of(old) == generation_of(new):
            self._controller.queue.add_after(key_of(new), BATCH_PERIOD)
        else:
            self._controller.queue.add(key_of(new))

    def _job_deleted(self, job: Object) -> None:
        self._consistency.forget(key_of(job))
        self._ended.discard(uid_of(job))
        self._controller.queue.add(key_of(job))
        self._release_pods(job)

    def _release_pods(self, job: Object) -> None:
        matches = label_selector(job["spec"].get("selector"))
        for pod in self._pods.store.list(namespace_of(job)):
            if has_finalizer(pod) and matches(labels_of(pod)):
                self._orphans.queue.add(key_of(pod))

    async def release_orphan(self, key: str) -> None:
        """Remove the finalizer from a pod that no Job will count any more."""
        pod = self._pods.store.get(*split_key(key))
        if pod is None or not has_finalizer(pod):
            return
        reference = controller_of(pod)
        if reference is not None:
            if reference["kind"] != "Job":
                return
            job = self._jobs.store.get(namespace_of(pod), reference["name"])
            lives = job is not None and uid_of(job) == reference["uid"]
            if job is not None and lives and not (_is_ours(job) and state.is_finished(job)):
                return
        await self._remove_finalizer(pod)

    async def _remove_finalizer(self, pod: Object) -> None:
        try:
            await self._client.patch(PODS, name_of(pod), _REMOVE_FINALIZER, namespace_of(pod), type=STRATEGIC_MERGE)
        except errors.NotFound:
            return

    # Reconciling

    async def reconcile(self, key: str) -> Result | None:
        """Bring one Job a step nearer to its end, once the caches show the controller's own writes."""
        shared = self._jobs.store.get(*split_key(key))
        if shared is None:
            self._expectations.forget(key)
            self._consistency.forget(key)
            self._removed.pop(key, None)
            self._backoffs.pop(key, None)
            return None
        if not self._consistency.ready(key):
            return Result(after=0.05)
        if not _is_ours(shared):
            return None
        if state.is_finished(shared) or uid_of(shared) in self._ended:
            self._backoffs.pop(key, None)
            return None
        job = copy(shared)
        job.setdefault("status", {}).setdefault("uncountedTerminatedPods", {})
        # Both before the pods are read: what is observed after that, the pods that were read do not show.
        satisfied = self._expectations.satisfied(key)
        removed = frozenset(self._removed.get(key, ()))
        return await _Sync(self, key, job).run(await self._claim(job), removed, satisfied=satisfied)

    async def _claim(self, job: Object) -> list[Object]:
        matches = label_selector(job["spec"].get("selector"))
        every = podkit.owned_pods(self._pods, job, "Job", orphans=True)
        claimer = Claimer(self._client, Owner(JOBS, "Job", job), PODS, finalizers=[FINALIZER])
        return await claimer.claim(every, lambda pod: matches(labels_of(pod)))


def _is_ours(job: Object) -> bool:
    return job["spec"].get("managedBy") in (None, OWN_NAME)


class _Sync:
    """One reconciliation of one Job."""

    def __init__(self, owner: JobController, key: str, job: Object) -> None:
        self._owner, self._key, self._job = owner, key, job
        self._client, self._clock = owner._client, owner._clock
        self._recorder, self._control = owner._recorder, owner._control
        self._expectations = owner._expectations
        self._result: Result | None = None

    async def run(self, pods: list[Object], removed: frozenset[str], *, satisfied: bool) -> Result | None:
        """``removed``: pods whose finalizer was removed; ``satisfied``: whether all that was created is in ``pods``."""
        now = self._clock.now()
        tally = Tally(self._job, pods, removed, now)
        if not self._job["status"].get("startTime") and not is_suspended(self._job):
            self._job["status"]["startTime"] = timestamp(now)
        backoff = self._owner._backoffs.get(self._key, policies.Backoff())
        backoff = backoff.after(tally.new_succeeded, tally.new_failed)
        tally.conclude()
        left = tally.deadline_in()
        if tally.finished is None and left is not None:
            self._again(left)
        active, failure, changed = len(tally.active), None, False
        if tally.finished is not None:
            active, failure = await self._stop_all(tally, satisfied=satisfied)
        else:
            managed = satisfied and not is_deleting(self._job)
            if managed:
                active, failure = await self._manage(tally, backoff)
            if tally.is_complete(active):
                message = "Reached expected number of succeeded pods"
                tally.finished = make_condition("SuccessCriteriaMet", "True", "CompletionsReached", message, now)
            elif managed:
                changed = self._note_suspension(now)
        changed |= self._set_counts(active, tally)
        await self._track(tally, changed=changed, backoff=backoff)
        if failure is not None:
            raise failure
        return self._result

    def _again(self, seconds: float) -> None:
        self._owner._controller.queue.add_after(self._key, max(seconds, 0.001))

    def _set_counts(self, active: int, tally: Tally) -> bool:
        status = self._job["status"]
        wanted = {"active": active, "ready": tally.ready, "terminating": tally.terminating}
        changed = any(status.get(name, 0 if name == "active" else None) != value for name, value in wanted.items())
        status |= wanted
        return changed

    def _note_suspension(self, now: float) -> bool:
        status = self._job["status"]
        if is_suspended(self._job):
            wanted = make_condition("Suspended", "True", "JobSuspended", "Job suspended", now)
            if not state.ensure_condition(status, wanted):
                return False
            self._recorder.event(self._job, "Normal", "Suspended", "Job suspended")
            status.pop("startTime", None)
            return True
        wanted = make_condition("Suspended", "False", "JobResumed", "Job resumed", now)
        if not state.ensure_condition(status, wanted):
            return False
        self._recorder.event(self._job, "Normal", "Resumed", "Job resumed")
        status["startTime"] = timestamp(now)
        return True

    # Pods

    async def _stop_all(self, tally: Tally, *, satisfied: bool) -> tuple[int, Exception | None]:
        """Delete what still runs of a Job that ends; it has not ended before that is done."""
        results = await asyncio.gather(*map(self._delete, tally.active), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        deleted = len(results) - len(failures)
        if failures or not satisfied:
            tally.finished = None
        tally.terminating += deleted
        tally.ready -= sum(
            podkit.is_ready(pod) for pod, result in zip(tally.active, results, strict=True) if result is None
        )
        return len(tally.active) - deleted, failures[0] if failures else None

    async def _delete(self, pod: Object) -> None:
        try:
            await self._control.delete(namespace_of(pod), name_of(pod), self._job)
        except errors.NotFound:
            return

    async def _manage(self, tally: Tally, backoff: policies.Backoff) -> tuple[int, Exception | None]:
        """Delete pods that are too many, or create those that are missing; how many are active then."""
        active = len(tally.active)
        if is_suspended(self._job):
            return await self._remove(tally, policies.pods_to_remove(self._job, tally.active, active))
        wanted = tally.wanted_active()
        doomed = policies.pods_to_remove(self._job, tally.active, max(active - wanted, 0))[:BURST]
        if doomed:
            return await self._remove(tally, doomed)
        waits = replaces_only_failed(self._job)
        missing = wanted - active - (tally.terminating if waits else 0)
        if missing <= 0:
            return active, None
        now = self._clock.now()
        if not limits_per_index(self._job) and (wait := backoff.remaining(now)) > 0:
            self._again(max(wait, BATCH_PERIOD))
            return 0, None
        missing = min(missing, BURST)
        indexes: list[int | None] = [None] * missing
        if is_indexed(self._job):
            pending = tally.pending_indexes(missing, waits_for_terminating=waits)
            delays = {index: policies.index_backoff(tally.delayed.get(index), now) for index in pending}
            indexes = [index for index in pending if delays[index] <= 0]
            if pending and not indexes:
                self._again(max(min(delays.values()), BATCH_PERIOD))
                return 0, None
        return await self._create(tally, indexes)

    async def _remove(self, tally: Tally, doomed: Sequence[Object]) -> tuple[int, Exception | None]:
        self._expectations.expect_deletions(self._key, map(key_of, doomed))
        results = await asyncio.gather(*map(self._release_and_delete, doomed), return_exceptions=True)
        failures = [result for result in results if isinstance(result, Exception)]
        removed = len(doomed) - len(failures)
        tally.terminating += removed
        tally.ready -= sum(podkit.is_ready(pod) for pod, result in zip(doomed, results, strict=True) if result is None)
        return len(tally.active) - removed, failures[0] if failures else None

    async def _release_and_delete(self, pod: Object) -> None:
        try:
            if has_finalizer(pod):
                await self._owner._remove_finalizer(pod)
            await self._control.delete(namespace_of(pod), name_of(pod), self._job)
        except (errors.ApiError, ConnectionError, TimeoutError) as error:
            self._expectations.deletion_observed(self._key, key_of(pod))
            if not isinstance(error, errors.NotFound):
                raise

    async def _create(self, tally: Tally, indexes: Sequence[int | None]) -> tuple[int, Exception | None]:
        self._expectations.expect_creations(self._key, len(indexes))

        async def create(number: int) -> None:
            index = indexes[number]
            replaced = tally.delayed.get(index) if index is not None else None
            try:
                await self._control.create(namespace_of(self._job), new_pod(self._job, index, replaced), self._job)
            except errors.ApiError as error:
                if not namespace_is_terminating(error):
                    raise
                self._expectations.creation_observed(self._key)

        made, failure = await slow_start(len(indexes), create)
        self._expectations.creation_observed(self._key, len(indexes) - made)
        return len(tally.active) + made, failure

    # Tracking

    async def _track(self, tally: Tally, backoff: policies.Backoff, *, changed: bool) -> None:
        """Write ended pods into the status, then remove their finalizers, then write the totals."""
        held = {uid_of(pod) for pod in tally.pods if has_finalizer(pod) and uid_of(pod) not in tally.removed}
        changed |= state.drop_counted(self._job["status"], held)
        removable, counted, full = tally.count()
        changed |= counted
        changed |= tally.settle_condition()
        if changed:
            await self._write(tally)
            self._owner._backoffs[self._key] = backoff
        failure = await self._remove_finalizers(removable, held)
        changed = state.drop_counted(self._job["status"], held)
        if failure is not None:
            if changed:
                await self._write(tally)
            raise failure
        ended = not full and tally.enact()
        if changed or ended:
            await self._write(tally)
        if ended:
            self._owner._ended.add(uid_of(self._job))
            self._report_end(tally)

    async def _write(self, tally: Tally) -> None:
        job = self._job
        status = {name: value for name, value in job["status"].items() if value or name in _KEPT}
        uncounted = {name: uids for name, uids in status["uncountedTerminatedPods"].items() if uids}
        if status.get("failedIndexes") is None:
            status.pop("failedIndexes", None)
        status["uncountedTerminatedPods"] = uncounted
        written = await self._client.update_status(JOBS, {**job, "status": status})
        self._owner._consistency.wrote(self._key, self._owner._jobs, written)
        self._job = tally.job = copy(written)
        self._job.setdefault("status", {}).setdefault("uncountedTerminatedPods", {})

    async def _remove_finalizers(self, pods: Sequence[Object], held: set[str]) -> Exception | None:
        expected = self._owner._removed.setdefault(self._key, set())
        expected.update(map(uid_of, pods))
        results = await asyncio.gather(*map(self._owner._remove_finalizer, pods), return_exceptions=True)
        failure = None
        for pod, result in zip(pods, results, strict=True):
            if isinstance(result, Exception):
                expected.discard(uid_of(pod))
                failure = result
            else:
                held.discard(uid_of(pod))
        return failure

    def _report_end(self, tally: Tally) -> None:
        assert tally.finished is not None
        completions = self._job["spec"].get("completions")
        if tally.finished["type"] != "Complete":
            self._recorder.event(self._job, "Warning", tally.finished["reason"], tally.finished["message"])
            return
        if completions is not None and int(self._job["status"].get("succeeded") or 0) > int(completions):
            message = "Too many succeeded pods running after completion count reached"
            self._recorder.event(self._job, "Warning", "TooManySucceededPods", message)
        self._recorder.event(self._job, "Normal", "Completed", "Job completed")


_KEPT = frozenset(("ready", "terminating", "uncountedTerminatedPods", "failedIndexes"))
"""Fields of the status that are on the wire even if they are zero or empty."""


class _PodHandler:
    """Which Jobs a pod's change concerns, and which expectations it fulfils."""

    def __init__(self, owner: JobController) -> None:
        self._owner = owner
        self._queue, self._expectations = owner._controller.queue, owner._expectations

    def added(self, pod: Object, *, initial: bool) -> None:
        if is_deleting(pod):
            self._gone(pod, final=False)
            return
        reference = controller_of(pod)
        if reference is None:
            self._orphaned(pod)
        elif (job := self._job(pod, reference)) is not None:
            self._expectations.creation_observed(key_of(job))
            self._queue.add_after(key_of(job), BATCH_PERIOD)

    def updated(self, old: Object, new: Object) -> None:
        if is_deleting(new):
            self._gone(new, final=False)
            return
        before, after = controller_of(old), controller_of(new)
        if before is not None and before != after and (job := self._job(old, before)) is not None:
            self._changed(job, new)
        if after is None:
            self._orphaned(new)
        elif (job := self._job(new, after)) is not None:
            self._changed(job, new)

    def deleted(self, pod: Object) -> None:
        self._gone(pod, final=True)

    def _changed(self, job: Object, pod: Object) -> None:
        if not has_finalizer(pod):
            self._owner._removed.get(key_of(job), set()).discard(uid_of(pod))
        self._queue.add_after(key_of(job), BATCH_PERIOD)

    def _gone(self, pod: Object, *, final: bool) -> None:
        reference = controller_of(pod)
        job = self._job(pod, reference) if reference is not None else None
        if job is None or state.is_finished(job):
            if has_finalizer(pod) and (reference is None or reference["kind"] == "Job"):
                self._owner._orphans.queue.add(key_of(pod))
            return
        self._expectations.deletion_observed(key_of(job), key_of(pod))
        if final or not has_finalizer(pod):
            self._owner._removed.get(key_of(job), set()).discard(uid_of(pod))
        self._queue.add_after(key_of(job), BATCH_PERIOD)

    def _orphaned(self, pod: Object) -> None:
        if has_finalizer(pod):
            self._owner._orphans.queue.add(key_of(pod))
        labels = labels_of(pod)
        for job in self._owner._jobs.store.list(namespace_of(pod)) if labels else ():
            if label_selector(job["spec"].get("selector"))(labels):
                self._queue.add_after(key_of(job), BATCH_PERIOD)

    def _job(self, pod: Object, reference: Object) -> Object | None:
        if reference["kind"] != "Job":
            return None
        job = self._owner._jobs.store.get(namespace_of(pod), reference["name"])
        return job if job is not None and uid_of(job) == reference["uid"] else None
