"""``Controller``: event source → key → queue → reconcile.

A controller watches resources through informers; each change is mapped to the keys of what must be looked at again,
and the reconcile function brings one key's state nearer to what is wanted, reading the state again. It may fail: the
key is retried later, with back-off. Source: https://kubernetes.io/docs/concepts/architecture/controller/
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.informer import Callbacks, Handler, Informer
from tiphys.controlkit.metrics import QueueMetrics
from tiphys.controlkit.objects import (
    key_of,
)
from tiphys.controlkit.queue import RateLimiter, WorkQueue
from tiphys.controlkit.retry import TryAgain
from tiphys.runtime.clock import Clock
from tiphys.runtime.metrics import Registry
from tiphys.runtime.tasks import Runner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """When to reconcile the key again, after a reconcile that did not fail.

    ``after``: again in so many seconds, back-off reset. ``retry``: again with back-off.
    """

    after: float | None = None
    retry: bool = False


Reconcile = Callable[[str], Awaitable[Result | None]]


class Controller:
    """Runs ``reconcile`` over the keys of its queue, with several workers and never twice at once for one key.

    ``max_retries`` is how often a failing key is tried again before it is dropped until its next event; None: always.
    """

    def __init__(
        self,
        name: str,
        reconcile: Reconcile,
        clock: Clock,
        *,
        workers: int = 1,
        max_retries: int | None = None,
        limiter: RateLimiter[str] | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.name = name
        self.queue: WorkQueue[str] = WorkQueue(clock, limiter, QueueMetrics(registry, name) if registry else None)
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self._max_retries = max_retries
        self._informers: list[Informer] = []

    def watches(self, informer: Informer, keys: Callable[[Object], Iterable[str]] | None = None) -> None:
        """Reconcile ``keys(obj)`` on each change of ``obj``, of the old and of the new object;

        its own key by default.
        """
        self.reads(informer)
        if keys is None:
            own = self.queue.add
            informer.add_handler(Callbacks(changed=lambda obj: own(key_of(obj))))
            return
        mapping = keys

        def enqueue(obj: Object) -> None:
            for key in mapping(obj):
                self.queue.add(key)

        def updated(old: Object, new: Object) -> None:
            enqueue(old)
            enqueue(new)

        informer.add_handler(Callbacks(changed=enqueue, updated=updated))

    def handles(self, informer: Informer, handler: Handler) -> None:
        """Let ``handler`` decide which keys to add to ``queue``."""
        self.reads(informer)
        informer.add_handler(handler)

    def reads(self, informer: Informer) -> None:
        """Reconcile reads from this informer: wait for its first list before starting."""
        if informer not in self._informers:
            self._informers.append(informer)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        await self.wait_synced()
        async with Runner(self._clock, f"{self.name} ") as runner:
            workers = [runner.supervise(self._work, f"worker {number}") for number in range(self._workers)]
            for worker in workers:
                await worker

    async def wait_synced(self) -> None:
        for informer in self._informers:
            await informer.wait_synced()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self.process(key)
            finally:
                self.queue.done(key)

    async def process(self, key: str) -> None:
        """Reconcile one key and settle when to reconcile it again."""
        try:
            result = await self._reconcile(key)
        except (errors.ApiError, ConnectionError, TimeoutError, TryAgain) as error:
            level = logging.DEBUG if isinstance(error, errors.Conflict | TryAgain) else logging.WARNING
            log.log(level, "%s: %s: %s", self.name, key, error)
            self._retry(key)
        except Exception:
            log.exception("%s: reconciling %s failed", self.name, key)
            self._retry(key)
        else:
            self._settle(key, result)

    def _settle(self, key: str, result: Result | None) -> None:
        if result is not None and result.retry:
            self._retry(key)
            return
        self.queue.forget(key)
        if result is not None and result.after is not None:
            self.queue.add_after(key, result.after)

    def _retry(self, key: str) -> None:
        if self._max_retries is not None and self.queue.failures(key) >= self._max_retries:
            log.warning("%s: %s failed %d times and is dropped until it changes", self.name, key, self._max_retries)
            self.queue.forget(key)
            return
        self.queue.add_rate_limited(key)
