"""``EventRecorder``: reports to users what happens to their objects, as Event objects.

``event`` only notes what happened and never waits; ``run`` writes, and drops what comes while a thousand wait. Events
are written as v1 by most components and as events.k8s.io/v1 by the scheduler, as with upstream's. Source:
https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Literal

from tiphys.api.object import Object
from tiphys.client import errors
from tiphys.client.resources import CORE_EVENTS, EVENTS
from tiphys.client.rest import Client
from tiphys.controlkit.eventcorrelation import CACHE_SIZE, Correlator, Happening, Recent, Record
from tiphys.controlkit.objects import (
    micro_timestamp,
    timestamp,
)
from tiphys.runtime.clock import Clock

log = logging.getLogger(__name__)

QUEUE = 1000
TRIES = 12
RETRY_AFTER = 10.0
SERIES_ENDS_AFTER = 360.0


class EventRecorder:
    """Records events in the name of ``component``; ``named`` gives a recorder for another one with the same writer."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        component: str,
        *,
        host: str = "",
        api: Literal["v1", "events.k8s.io/v1"] = "v1",
        rng: random.Random | None = None,
    ) -> None:
        self._writer = _Writer(client, clock, rng or random.Random(), _CoreFormat() if api == "v1" else _SeriesFormat())
        self._component = component
        self._host = host

    def named(self, component: str) -> EventRecorder:
        other = EventRecorder.__new__(EventRecorder)
        other._writer, other._component, other._host = self._writer, component, self._host
        return other

    def event(
        self,
        obj: Object,
        type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        action: str = "",
        related: Object | None = None,
        annotations: Object | None = None,
        field_path: str = "",
    ) -> None:
        """Note an event about ``obj`` (a full object with kind and apiVersion, or an ObjectReference)."""
        involved = reference(obj)
        if field_path:
            involved["fieldPath"] = field_path
        now, unique = self._writer.instant()
        happening = Happening(
            component=self._component,
            host=self._host,
            involved=involved,
            type=type,
            reason=reason,
            message=message,
            time=now,
            name=f"{involved.get('name', '')}.{unique:x}",
            action=action,
            related=reference(related) if related else None,
            annotations=annotations or {},
        )
        self._writer.put(happening)

    async def run(self) -> None:
        """Write events until cancelled."""
        await self._writer.run()

    async def flush(self) -> None:
        """Wait until everything noted so far is written or given up; for tests and orderly stops."""
        await self._writer.flush()


def reference(obj: Object) -> Object:
    """The ObjectReference of an object, or a copy of ``obj`` if it is one already."""
    if "metadata" not in obj:
        return dict(obj)
    meta = obj["metadata"]
    fields = {
        "kind": obj.get("kind"),
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "uid": meta.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": meta.get("resourceVersion"),
    }
    return {key: value for key, value in fields.items() if value}


class _CoreFormat:
    """v1 Events: correlated and counted by client-go's rules."""

    resource = CORE_EVENTS

    def __init__(self) -> None:
        self._correlator = Correlator()

    def decide(self, happening: Happening) -> Record | None:
        return self._correlator.correlate(happening)

    def create(self, record: Record, namespace: str) -> Object:
        """The Event of v1 for a record; times in RFC 3339 with whole seconds."""
        happening = record.happening
        meta: Object = {"name": happening.name, "namespace": namespace}
        if happening.annotations:
            meta["annotations"] = dict(happening.annotations)
        source = {"component": happening.component}
        if happening.host:
            source["host"] = happening.host
        return {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": meta,
            "involvedObject": happening.involved,
            "reason": happening.reason,
            "message": happening.message,
            "source": source,
            "firstTimestamp": timestamp(record.first),
            "lastTimestamp": timestamp(happening.time),
            "count": record.count,
            "type": happening.type,
            "eventTime": None,
            "reportingComponent": happening.component,
            "reportingInstance": happening.host,
        }

    def patch(self, record: Record) -> Object:
        happening = record.happening
        return {"count": record.count, "lastTimestamp": timestamp(happening.time), "message": happening.message}


class _SeriesFormat:
    """events.k8s.io/v1 Events: the second of a kind within six minutes starts a series; later ones only count."""

    resource = EVENTS

    def __init__(self) -> None:
        self._seen: Recent[Record] = Recent(CACHE_SIZE)

    def decide(self, happening: Happening) -> Record | None:
        """The record to write for a first or second event of a series; None for later ones, which ``patch`` sums up."""
        related = happening.related or {}
        key = (*happening.similar_key, happening.action, str(related.get("uid", "")))
        seen = self._seen.get(key)
        if seen is None or happening.time - seen.happening.time > SERIES_ENDS_AFTER:
            record = Record(happening, 1, happening.time)
            self._seen.put(key, record)
            return record
        record = Record(
            Happening(
                seen.happening.component,
                seen.happening.host,
                seen.happening.involved,
                seen.happening.type,
                seen.happening.reason,
                seen.happening.message,
                happening.time,
                seen.happening.name,
                seen.happening.action,
                seen.happening.related,
            ),
            seen.count + 1,
            seen.first,
        )
        self._seen.put(key, record)
        return record if record.count == 2 else None

    def create(self, record: Record, namespace: str) -> Object:
        """The Event of events.k8s.io/v1 for a record, with a ``series`` from the second occurrence on."""
        happening = record.happening
        event: Object = {
            "kind": "Event",
            "apiVersion": "events.k8s.io/v1",
            "metadata": {"name": happening.name, "namespace": namespace},
            "eventTime": micro_timestamp(record.first),
            "reportingController": happening.component,
            "reportingInstance": f"{happening.component}-{happening.host}",
            "action": happening.action or happening.reason,  # required here, and not in core/v1
            "reason": happening.reason,
            "regarding": happening.involved,
            "note": happening.message,
            "type": happening.type,
        }
        if happening.related:
            event["related"] = happening.related
        if record.count > 1:
            event |= self.patch(record)
        return event

    def patch(self, record: Record) -> Object:
        return {"series": {"count": record.count, "lastObservedTime": micro_timestamp(record.happening.time)}}


class _Writer:
    """The one task that writes, in order."""

    def __init__(self, client: Client, clock: Clock, rng: random.Random, format: _CoreFormat | _SeriesFormat) -> None:
        self._client, self._clock, self._rng, self._format = client, clock, rng, format
        self._queue: asyncio.Queue[Happening] = asyncio.Queue(QUEUE)
        self._last = 0

    def instant(self) -> tuple[float, int]:
        """Now in seconds, and in nanoseconds such that no two calls give the same: the suffix of an Event's name."""
        now = self._clock.now()
        self._last = max(self._last + 1, int(now * 1e9))
        return now, self._last

    def put(self, happening: Happening) -> None:
        try:
            self._queue.put_nowait(happening)
        except asyncio.QueueFull:
            log.debug("too many events wait; dropped %s about %s", happening.reason, happening.involved.get("name"))

    async def flush(self) -> None:
        await self._queue.join()

    async def run(self) -> None:
        while True:
            happening = await self._queue.get()
            try:
                record = self._format.decide(happening)
                if record is not None:
                    await self._persist(record)
            finally:
                self._queue.task_done()

    async def _persist(self, record: Record) -> None:
        for attempt in range(TRIES):
            try:
                await self._write(record)
            except errors.ApiError as error:
                level = logging.DEBUG if isinstance(error, errors.AlreadyExists | errors.Forbidden) else logging.WARNING
                log.log(level, "the server refuses event %s: %s", record.happening.name, error)
                return
            except (ConnectionError, TimeoutError) as error:
                log.debug("cannot write event %s: %s", record.happening.name, error)
                await self._clock.sleep(RETRY_AFTER * (self._rng.random() if attempt == 0 else 1))
            else:
                return
        log.warning("gave up writing event %s", record.happening.name)

    async def _write(self, record: Record) -> None:
        namespace = record.happening.involved.get("namespace") or "default"
        resource, format = self._format.resource, self._format
        if record.count > 1:
            try:
                await self._client.patch(resource, record.happening.name, format.patch(record), namespace)
            except errors.NotFound:
                log.debug("event %s was deleted; writing it again", record.happening.name)
            else:
                return
        await self._client.create(resource, format.create(record, namespace), namespace=namespace)
