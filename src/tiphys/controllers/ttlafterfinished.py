"""TTL after finished: deletes Jobs some time after they have ended.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/
"""

from __future__ import annotations

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks
from tiphys.client.resources import JOBS
from tiphys.controlkit.controller import Result
from tiphys.controlkit.objects import (
    condition,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    split_key,
    uid_of,
)
from tiphys.controllers.context import ControllerContext


def expires_at(job: Object) -> float | None:
    """When a finished Job is to be deleted; None if it has no TTL or runs."""
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    for type_ in ("Complete", "Failed"):
        finished = condition(job, type_)
        if ttl is not None and finished is not None and finished["status"] == "True":
            ended = parse_time(finished.get("lastTransitionTime"))
            return None if ended is None else ended + int(ttl)
    return None


class TTLAfterFinishedController:
    def __init__(self, context: ControllerContext) -> None:
        self._client, self._clock = context.client, context.clock
        self._jobs = context.informers.informer(JOBS)
        workers = context.config.concurrent_ttl_after_finished_syncs
        self._controller = context.controller("ttl_jobs_to_delete", self.reconcile, workers=workers)
        self._controller.handles(
            self._jobs,
            Callbacks(added=self._enqueue, updated=lambda old, new: self._enqueue(new), deleted=lambda job: None),
        )

    async def run(self) -> None:
        await self._controller.run()

    def _enqueue(self, job: Object) -> None:
        if not is_deleting(job) and expires_at(job) is not None:
            self._controller.queue.add(key_of(job))

    async def reconcile(self, key: str) -> Result | None:
        """Delete a finished Job whose TTL is over, after a read past the cache; returns the wait in seconds."""
        job = self._jobs.store.get(*split_key(key))
        if job is None or is_deleting(job) or (wait := self._left(job)) is None:
            return None
        if wait > 0:
            return Result(after=wait)
        try:
            live = await self._client.get(JOBS, name_of(job), namespace_of(job))
            if uid_of(live) != uid_of(job) or is_deleting(live):
                return None
            if (wait := self._left(live)) is None or wait > 0:  # somebody has changed the TTL
                return None if wait is None else Result(after=wait)
            await self._client.delete(JOBS, name_of(job), namespace_of(job), uid=uid_of(job), propagation="Foreground")
        except errors.NotFound:
            return None
        return None

    def _left(self, job: Object) -> float | None:
        expires = expires_at(job)
        return None if expires is None else expires - self._clock.now()
