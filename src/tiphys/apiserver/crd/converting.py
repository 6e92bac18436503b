"""``WebhookConversions``: the objects of a custom resource in other versions, as its conversion webhook makes them.

Objects of the store are converted in batches, each once to each version while its resource version lasts; who needs one
that is being converted waits for that. The batches belong to the server, not to the request that was first: one that
gives up takes nothing from the others.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-conversion
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence

import orjson

from tiphys.api import errors
from tiphys.api.codec.typed import DecodeError
from tiphys.api.custom.decoding import coerce
from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.api.scheme import Resource
from tiphys.apiserver.aside import BIG, aside
from tiphys.apiserver.crd.reviews import BadAnswer, make_review, read_review, review_version
from tiphys.apiserver.crd.stored import StoredCodec
from tiphys.apiserver.storage.converted import StoredEntry, stored_of
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.webhooks.client import CallFailed, WebhookCaller
from tiphys.apiserver.webhooks.figures import ConversionFigures
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner

_TIMEOUT_SECONDS = 30.0
_BATCH_OBJECTS = 100
_BATCH_BYTES = 1024 * 1024
_CALL_FAILURE = "conversion_webhook_call_failure"


class ConversionWebhook:
    """Asks the webhook of one definition."""

    def __init__(
        self,
        resource: Resource,
        *,
        caller: WebhookCaller,
        uid: Callable[[], str],
        clock: Clock,
        figures: ConversionFigures,
    ) -> None:
        assert resource.webhook is not None
        self._resource = resource
        self._config: Object = _client_config(resource.webhook["clientConfig"])
        self._accepted = resource.webhook.get("conversionReviewVersions") or ()
        self._caller = caller
        self._uid = uid
        self._clock = clock
        self._figures = figures

    async def convert(self, objects: Sequence[Object], version: str) -> list[Object]:
        """``objects``, which are of one version, in another. Raises 500."""
        before = objects[0]["apiVersion"]
        started, failure = self._clock.monotonic(), _CALL_FAILURE
        try:
            converted = await self._asked(objects, f"{self._resource.group}/{version}")
            failure = ""
            return converted
        except (CallFailed, BadAnswer) as error:
            failure = error.failure if isinstance(error, BadAnswer) else failure
            text = f"failed: {error}" if isinstance(error, CallFailed) else str(error)
            kind = f"{before}, Kind={self._resource.kind}"
            raise errors.from_code(500, f"conversion webhook for {kind} {text}") from None
        finally:
            seconds = self._clock.monotonic() - started
            versions = (before.rpartition("/")[2], version)
            self._figures.observe(self._resource.name, versions, failure, seconds)

    async def _asked(self, objects: Sequence[Object], desired: str) -> list[Object]:
        spoken = review_version(self._accepted)
        if spoken is None:
            raise errors.from_code(500, "no supported conversion review versions")
        uid = str(uuid.UUID(self._uid()))
        review = make_review(spoken, uid, desired, [_unversioned(obj) for obj in objects])
        answer = await self._caller.call(self._config, review, _TIMEOUT_SECONDS)
        return read_review(answer, spoken, uid, desired, objects)


def _client_config(config: Object) -> Object:
    """A service that names no port is asked at 443."""
    if (service := config.get("service")) is None:
        return config
    return {**config, "service": {"port": 443, **service}}


def _unversioned(obj: Object) -> Object:
    """As it is in the store, which has no resource versions."""
    meta = obj.get("metadata") or {}
    return {**obj, "metadata": {name: value for name, value in meta.items() if name != "resourceVersion"}}


class WebhookConversions:
    """Of one custom resource. ``codec`` is that of its store."""

    def __init__(self, resource: Resource, codec: StoredCodec, webhook: ConversionWebhook, runner: Runner) -> None:
        self._resource = resource
        self._codec = codec
        self._webhook = webhook
        self._runner = runner

    async def object(self, obj: Object, version: str) -> Object:
        """An object in another version, pruned by its schema. Raises 500."""
        if obj.get("apiVersion") == f"{self._resource.group}/{version}":
            return obj
        (converted,) = await self._webhook.convert([copy(obj)], version)
        is_big = len(orjson.dumps(converted)) > BIG
        return await aside(lambda: self._in_shape(converted, version)) if is_big else self._in_shape(converted, version)

    async def entries(self, entries: Sequence[Entry], version: str) -> list[Entry]:
        """Entries of the store in a version, in the same order. Raises 500."""
        converted: list[Entry] = []
        for batch in _batches([stored_of(entry) for entry in entries]):
            while not await self._make(batch, version):
                pass
            converted += [entry if entry.version == version else entry.forms[version] for entry in batch]
        return converted

    async def _make(self, batch: Sequence[StoredEntry], version: str) -> bool:
        """Have every entry of a batch converted, or wait until it is. Raises 500.

        False: another request's batch failed, perhaps for an object that is not needed here; it is to be tried again.
        """
        own = self._start(batch, version)
        waiting = {form for entry in batch if isinstance(form := entry.forms.get(version), asyncio.Task)}
        if not waiting:
            return True
        await asyncio.wait(waiting)
        for work in sorted(waiting, key=lambda work: work not in own):
            if work.cancelled():
                raise errors.internal("the conversion was given up, as the server stops")
            if (error := work.result()) is not None:
                if work not in own:
                    return False
                raise errors.StatusError(error.status)
        return True

    def _start(self, batch: Sequence[StoredEntry], version: str) -> set[asyncio.Task[errors.StatusError | None]]:
        """Begin to convert what nobody converts yet."""
        missing: dict[str, list[StoredEntry]] = {}
        for entry in batch:
            if entry.version != version and version not in entry.forms:
                missing.setdefault(entry.version, []).append(entry)
        own = set()
        for some in missing.values():
            work = self._runner.spawn(self._converted(some, version), f"conversion to {self._resource.name}/{version}")
            own.add(work)
            for entry in some:
                entry.forms[version] = work
        return own

    async def _converted(self, entries: Sequence[StoredEntry], version: str) -> errors.StatusError | None:
        """Convert entries of one version; what went wrong, if something did, so that the next request tries again."""
        made: dict[int, Entry] = {}
        try:
            objects = [self._codec.object(entry) for entry in entries]
            for entry, obj in zip(entries, await self._webhook.convert(objects, version), strict=True):
                made[id(entry)] = await self._shaped(obj, entry, version)
        except errors.StatusError as error:
            return error
        finally:
            for entry in entries:
                if id(entry) in made:
                    entry.forms[version] = made[id(entry)]
                else:
                    entry.forms.pop(version, None)
        return None

    async def _shaped(self, obj: Object, entry: StoredEntry, version: str) -> Entry:
        """Objects of a batch take a turn of the loop each; a big one is shaped beside it."""

        def shape() -> Entry:
            return self._codec.converted(self._in_shape(obj, version), entry, version)

        if len(entry.body) > BIG:
            return await aside(shape)
        await asyncio.sleep(0)
        return shape()

    def _in_shape(self, obj: Object, version: str) -> Object:
        """Pruned by the schema of its version, as an object in a body is."""
        try:
            coerce(obj, self._resource.custom, self._resource.gvk(version))
        except DecodeError as error:
            raise errors.from_code(500, str(error)) from None
        return obj


def _batches(entries: Sequence[StoredEntry]) -> list[list[StoredEntry]]:
    batches: list[list[StoredEntry]] = []
    size = _BATCH_BYTES
    for entry in entries:
        if size + len(entry.body) > _BATCH_BYTES or len(batches[-1]) >= _BATCH_OBJECTS:
            batches.append([])
            size = 0
        batches[-1].append(entry)
        size += len(entry.body)
    return batches
