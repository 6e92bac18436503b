"""The cron job controller's I/O.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import CRON_JOBS, JOBS
from tiphys.controlkit.controller import Result
from tiphys.controlkit.events import reference
from tiphys.controlkit.objects import (
    condition,
    controller_of,
    controller_reference,
    copy,
    is_controlled_by,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    split_key,
    status_of,
    timestamp,
    uid_of,
)
from tiphys.controllers.context import ControllerContext
from tiphys.controllers.cronjob import times
from tiphys.controllers.cronjob.schedule import Schedule, parse
from tiphys.validation.batch.schedule import ScheduleError, zone_exists

SCHEDULED_ANNOTATION = "batch.kubernetes.io/cronjob-scheduled-timestamp"
UNSUPPORTED_ZONE = (
    "CRON_TZ or TZ used in schedule {} is not officially supported, see "
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)


def finished_condition(job: Object) -> str:
    """Complete or Failed; empty while the Job runs."""
    for type_ in ("Complete", "Failed"):
        current = condition(job, type_)
        if current is not None and current["status"] == "True":
            return type_
    return ""


def job_name(cron_job: Object, scheduled: float) -> str:
    return f"{name_of(cron_job)}-{int(scheduled) // 60}"


def job_from_template(cron_job: Object, scheduled: float) -> Object:
    """The Job of a scheduled time (seconds since the epoch), controlled by the cron job."""
    template = cron_job["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    zone = cron_job["spec"].get("timeZone")
    local = datetime.fromtimestamp(scheduled, ZoneInfo(zone) if zone else UTC)
    text = local.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {
            "name": job_name(cron_job, scheduled),
            "namespace": namespace_of(cron_job),
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED_ANNOTATION: text},
            "ownerReferences": [controller_reference(cron_job, "batch/v1", "CronJob")],
        },
        "spec": copy(template["spec"]),
    }


class CronJobController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._recorder = context.recorder.named("cronjob-controller")
        self._cron_jobs = context.informers.informer(CRON_JOBS)
        self._jobs = context.informers.informer(JOBS)
        workers = context.config.concurrent_cron_job_syncs
        self._controller = context.controller("cronjob", self.reconcile, workers=workers)
        self._controller.handles(
            self._cron_jobs,
            Callbacks(added=self._enqueue, updated=self._updated, deleted=self._enqueue),
        )
        self._controller.watches(self._jobs, _owner_of)

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue(self, cron_job: Object) -> None:
        self._controller.queue.add(key_of(cron_job))

    def _updated(self, old: Object, new: Object) -> None:
        if all(old["spec"].get(name) == new["spec"].get(name) for name in ("schedule", "timeZone")):
            self._enqueue(new)
            return
        try:
            schedule = parse(new["spec"]["schedule"], new["spec"].get("timeZone"))
        except ScheduleError:
            message = f"unparseable schedule for cronjob: {new['spec']['schedule']}"
            self._recorder.event(new, "Warning", "UnParseableCronJobSchedule", message)
            return
        wait = times.wait_for_next(new, schedule, self._clock.now())
        self._controller.queue.add_after(key_of(new), wait if wait is not None else 0)

    async def reconcile(self, key: str) -> Result | None:
        """Clean up finished Jobs, start a due one, and write the status; returns when the next is due."""
        shared = self._cron_jobs.store.get(*split_key(key))
        if shared is None:
            return None
        jobs = [
            job
            for job in self._jobs.store.list(namespace_of(shared))
            if (owner := controller_of(job)) is not None and owner["name"] == name_of(shared)
        ]
        sync = _Sync(self, copy(shared))
        try:
            await sync.clean_up(jobs)
            return await sync.run(jobs)
        finally:
            await sync.write(shared)


class _Sync:
    """One reconciliation; ``cron_job`` is our copy, whose status is changed in place and written at the end."""

    def __init__(self, owner: CronJobController, cron_job: Object) -> None:
        self._client, self._recorder = owner._client, owner._recorder
        self._now = owner._clock.now()
        self.cron_job = cron_job
        self._status: Object = cron_job.setdefault("status", {})

    @property
    def _active(self) -> list[Object]:
        active: list[Object] = self._status.setdefault("active", [])
        return active

    async def write(self, shared: Object) -> None:
        wanted = {name: value for name, value in self._status.items() if value}
        if wanted != {name: value for name, value in status_of(shared).items() if value}:
            await self._client.update_status(CRON_JOBS, {**self.cron_job, "status": wanted})

    # Finished jobs

    async def clean_up(self, jobs: Sequence[Object]) -> None:
        """Delete the oldest finished jobs beyond the history limits."""
        for type_, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
            kept = self.cron_job["spec"].get(limit)
            if kept is None:
                continue
            finished = sorted((job for job in jobs if finished_condition(job) == type_), key=_by_start)
            for job in finished[: max(len(finished) - int(kept), 0)]:
                await self._delete(job)

    async def _delete(self, job: Object) -> bool:
        try:
            await self._client.delete(JOBS, name_of(job), namespace_of(job), propagation="Background")
        except errors.ApiError as error:
            self._recorder.event(self.cron_job, "Warning", "FailedDelete", f"Deleted job: {error.message}")
            return False
        self._forget(uid_of(job))
        self._recorder.event(self.cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name_of(job)}")
        return True

    def _forget(self, uid: str) -> None:
        self._status["active"] = [entry for entry in self._active if entry.get("uid") != uid]

    # Bookkeeping

    async def _settle_active(self, jobs: Sequence[Object]) -> None:
        known = {uid_of(job) for job in jobs}
        for job in jobs:
            await self._settle(job)
        for entry in list(self._active):
            if entry["uid"] not in known and not await self._exists(entry):
                message = f"Active job went missing: {entry['name']}"
                self._recorder.event(self.cron_job, "Normal", "MissingJob", message)
                self._forget(entry["uid"])

    async def _settle(self, job: Object) -> None:
        listed = any(entry["uid"] == uid_of(job) for entry in self._active)
        finished = finished_condition(job)
        if not finished:
            if not listed:
                await self._check_unexpected(job)
            return
        if listed:
            self._forget(uid_of(job))
            message = f"Saw completed job: {name_of(job)}, condition: {finished}"
            self._recorder.event(self.cron_job, "Normal", "SawCompletedJob", message)
        completed = status_of(job).get("completionTime")
        if finished == "Complete" and completed:
            self._status["lastSuccessfulTime"] = max(self._status.get("lastSuccessfulTime") or "", completed)

    async def _check_unexpected(self, job: Object) -> None:
        live = await self._client.get(CRON_JOBS, name_of(self.cron_job), namespace_of(self.cron_job))
        if any(entry["uid"] == uid_of(job) for entry in status_of(live).get("active") or ()):
            self.cron_job = live
            self._status = live.setdefault("status", {})
            return
        message = f"Saw a job that the controller did not create or forgot: {name_of(job)}"
        self._recorder.event(self.cron_job, "Warning", "UnexpectedJob", message)

    async def _exists(self, entry: Object) -> bool:
        try:
            await self._client.get(JOBS, entry["name"], entry["namespace"])
        except errors.NotFound:
            return False
        return True

    # Starting jobs

    async def run(self, jobs: Sequence[Object]) -> Result | None:
        """Start the Job that is due, if the policy allows it; returns the wait for the next one."""
        await self._settle_active(jobs)
        if is_deleting(self.cron_job) or self.cron_job["spec"].get("suspend"):
            return None
        schedule = self._schedule()
        if schedule is None:
            return None
        try:
            due = times.most_recent(self.cron_job, schedule, self._now, with_deadline=True)
        except times.ImpossibleSchedule as error:
            message = f"invalid schedule: {self.cron_job['spec']['schedule']} : {error}"
            self._recorder.event(self.cron_job, "Warning", "InvalidSchedule", message)
            return None
        if due.time is not None:
            if due.missed > times.MANY_MISSED:
                message = (
                    "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
                )
                self._recorder.event(self.cron_job, "Warning", "TooManyMissedTimes", message)
            if self._may_start(due.time) and not await self._start(due.time):
                return None
        wait = times.wait_for_next(self.cron_job, schedule, self._now)
        return None if wait is None else Result(after=wait)

    def _schedule(self) -> Schedule | None:
        spec = self.cron_job["spec"]
        zone = spec.get("timeZone")
        if zone is not None and not zone_exists(zone):
            message = f'invalid timeZone: "{zone}": unknown time zone {zone}'
            self._recorder.event(self.cron_job, "Warning", "UnknownTimeZone", message)
            return None
        if "TZ" in spec["schedule"]:
            message = UNSUPPORTED_ZONE.format(f'"{spec["schedule"]}"')
            self._recorder.event(self.cron_job, "Warning", "UnsupportedSchedule", message)
        try:
            return parse(spec["schedule"], zone)
        except ScheduleError as error:
            message = f'unparseable schedule: "{spec["schedule"]}" : {error}'
            self._recorder.event(self.cron_job, "Warning", "UnparseableSchedule", message)
            return None

    def _may_start(self, scheduled: float) -> bool:
        spec = self.cron_job["spec"]
        deadline = spec.get("startingDeadlineSeconds")
        if deadline is not None and scheduled + int(deadline) < self._now:
            moment = datetime.fromtimestamp(scheduled, UTC)
            when = f"{moment:%a, %d %b} {moment.year:04d} {moment:%H:%M:%S} UTC"
            message = f"Missed scheduled time to start a job: {when}"
            self._recorder.event(self.cron_job, "Warning", "MissSchedule", message)
            return False
        name = job_name(self.cron_job, scheduled)
        if any(entry["name"] == name for entry in self._active):
            return False
        if parse_time(self._status.get("lastScheduleTime")) == scheduled:
            return False
        if spec.get("concurrencyPolicy") == "Forbid" and self._active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.event(self.cron_job, "Normal", "JobAlreadyActive", message)
            return False
        return True

    async def _start(self, scheduled: float) -> bool:
        """Create the Job of a scheduled time; False if one of that name is there already."""
        if self.cron_job["spec"].get("concurrencyPolicy") == "Replace":
            await self._replace_active()
        wanted = job_from_template(self.cron_job, scheduled)
        try:
            job = await self._client.create(JOBS, wanted)
            self._recorder.event(self.cron_job, "Normal", "SuccessfulCreate", f"Created job {name_of(job)}")
        except errors.AlreadyExists:
            job = await self._client.get(JOBS, name_of(wanted), namespace_of(wanted))
            listed = any(entry["uid"] == uid_of(job) for entry in self._active)
            if listed or not is_controlled_by(job, self.cron_job):
                return False
        except errors.ApiError as error:
            self._recorder.event(self.cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
            raise
        self._active.append(reference({"kind": "Job", "apiVersion": "batch/v1", **job}))
        self._status["lastScheduleTime"] = timestamp(scheduled)
        return True

    async def _replace_active(self) -> None:
        for entry in list(self._active):
            try:
                job = await self._client.get(JOBS, entry["name"], entry["namespace"])
            except errors.ApiError as error:
                self._recorder.event(self.cron_job, "Warning", "FailedGet", f"Get job: {error.message}")
                raise
            if not await self._delete(job):
                raise RuntimeError(f"could not replace job {namespace_of(job)}/{name_of(job)}")


def _owner_of(job: Object) -> list[str]:
    owner = controller_of(job)
    return [f"{namespace_of(job)}/{owner['name']}"] if owner is not None and owner["kind"] == "CronJob" else []


def _by_start(job: Object) -> tuple[bool, str, str]:
    started = status_of(job).get("startTime") or ""
    return not started, started, name_of(job)
