"""Where events go: a ``Backend`` takes them, ``Truncating`` bounds their size, ``Batching`` hands them on later.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#audit-backends
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.audit.config import BatchConfig, TruncateConfig
from tiphys.apiserver.audit.policy import Level
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)


_TRUNCATED = {"audit.k8s.io/truncated": "true"}
_OBJECTS = ("requestObject", "responseObject")
_HAS_OBJECTS = frozenset((Level.REQUEST.text, Level.REQUEST_RESPONSE.text))

_CLOSING_SECONDS = 30.0

Failed = Callable[[str, int], None]
"""Called with a backend's name and how many events it could not take."""


class Backend(Protocol):
    name: str

    async def process(self, events: Sequence[Object]) -> bool:
        """Take events; whether all were taken. Never raises."""
        ...

    async def run(self) -> None:
        """Work in the background until cancelled."""
        ...

    async def close(self) -> None:
        """Send what waits."""
        ...


class Batching:
    """Keeps events in a bounded buffer and hands them on in batches; what does not fit is dropped and counted.

    ``at_once`` batches may be on their way: one whose receiver is slow holds up no other. An event that was taken is
    handed on, or counted as lost: also if the server stops.
    """

    def __init__(
        self, backend: Backend, config: BatchConfig, clock: Clock, failed: Failed, *, at_once: int = 1
    ) -> None:
        self.name = backend.name
        self._backend = backend
        self._config = config
        self._clock = clock
        self._failed = failed
        self._queue: asyncio.Queue[Object] = asyncio.Queue(config.buffer)
        self._batch: list[Object] = []
        """What is collected for the next batch."""
        self._room = asyncio.Semaphore(at_once)
        self._under_way: dict[asyncio.Task[bool], int] = {}
        """The batches that are being handed on, and how many events each has."""
        self._tokens = float(config.burst)
        self._filled = clock.monotonic()

    async def process(self, events: Sequence[Object]) -> bool:
        dropped = 0
        for event in events:
            try:
                self._queue.put_nowait(event)
            except asyncio.QueueFull:
                dropped += 1
        if dropped:
            self._failed(self.name, dropped)
        return True

    async def run(self) -> None:
        while True:
            await self._collect()
            await self._throttle()
            await self._room.acquire()
            batch, self._batch = self._batch, []
            self._hand_on(batch)

    def _hand_on(self, batch: list[Object]) -> None:
        """In a task of its own, which goes on if whoever collects is cancelled."""
        task = asyncio.ensure_future(self._backend.process(batch))
        self._under_way[task] = len(batch)
        task.add_done_callback(self._handed_on)

    def _handed_on(self, task: asyncio.Task[bool]) -> None:
        events = self._under_way.pop(task)
        self._room.release()
        if task.cancelled():
            self._failed(self.name, events)
        elif (error := task.exception()) is not None:
            log.error("the audit backend %s failed", self.name, exc_info=error)
            self._failed(self.name, events)

    async def _collect(self) -> None:
        """Fill the batch until it is full, or its first event has waited long enough."""
        if not self._batch:
            self._batch.append(await self._queue.get())
        deadline = self._clock.monotonic() + self._config.wait
        while len(self._batch) < self._config.size:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    self._batch.append(await self._queue.get())
            except TimeoutError:
                break

    async def _throttle(self) -> None:
        if not self._config.throttle:
            return
        now = self._clock.monotonic()
        self._tokens = min(self._config.burst, self._tokens + (now - self._filled) * self._config.qps)
        self._filled = now
        self._tokens -= 1
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / self._config.qps)

    async def close(self) -> None:
        """Hand on what there is, for as long as a server that stops may wait for it."""
        left = [*self._batch, *(self._queue.get_nowait() for _ in range(self._queue.qsize()))]
        self._batch = []
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                while left:
                    await self._room.acquire()
                    batch, left = left[: self._config.size], left[self._config.size :]
                    self._hand_on(batch)
                while self._under_way:
                    await asyncio.wait(self._under_way)
        except TimeoutError:
            lost = len(left) + sum(self._under_way.values())
            log.error("the audit backend %s did not take %d events before the server stopped", self.name, lost)
            if left:
                self._failed(self.name, len(left))
            for task in tuple(self._under_way):
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._backend.close()


class Truncating:
    """Leaves the objects out of events that are too large, drops what is too large even so, and splits batches."""

    def __init__(self, backend: Backend, config: TruncateConfig, failed: Failed) -> None:
        self.name = backend.name
        self._backend = backend
        self._config = config
        self._failed = failed

    async def process(self, events: Sequence[Object]) -> bool:
        taken, batch, batch_size = True, list[Object](), 0
        for event in events:
            bounded, size = truncate(event, self._config.max_event)
            if bounded is None:
                log.error("audit event %s is too large even after truncating", event["auditID"])
                self._failed(self.name, 1)
                continue
            if batch and batch_size + size > self._config.max_batch:
                taken = await self._backend.process(batch) and taken
                batch, batch_size = [], 0
            batch.append(bounded)
            batch_size += size
        return (await self._backend.process(batch) if batch else True) and taken

    async def run(self) -> None:
        await self._backend.run()

    async def close(self) -> None:
        await self._backend.close()


def truncate(event: Object, limit: int) -> tuple[Object | None, int]:
    """The event in at most ``limit`` bytes and its size; None if its metadata alone is larger."""
    size = len(orjson.dumps(event))
    if size > limit and event["level"] in _HAS_OBJECTS:
        event = {name: value for name, value in event.items() if name not in _OBJECTS}
        event["annotations"] = {**event.get("annotations", {}), **_TRUNCATED}
        size = len(orjson.dumps(event))
    return (event, size) if size <= limit else (None, size)
