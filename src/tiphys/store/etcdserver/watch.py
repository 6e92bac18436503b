"""The Watch service: a stream of requests in, one stream of answers out, for any number of watches.

Each watch has a task that reads its batches; all put their messages into one bounded queue, so a client that does not
read holds up its own watches only, and they catch up from the store's history later.

Source: https://etcd.io/docs/v3.6/learning/api/#watch-api
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tiphys.store.backend import Compacted, WatchRequest
from tiphys.store.etcdpb import pb, write_event
from tiphys.store.etcdserver.member import Member
from tiphys.store.watching import StoreWatch

NO_WATCH = -1
"""The watch id of answers that concern no watch, or all of a stream."""
QUEUED_MESSAGES = 64
NO_PUT, NO_DELETE = 0, 1


class Watch:
    def __init__(self, member: Member) -> None:
        self._member = member

    async def Watch(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        stream = _Stream(self._member)
        reader = asyncio.create_task(stream.read(requests), name="etcd watch requests")
        try:
            while True:
                message = await stream.messages.get()
                if message is None:
                    return
                yield message
        finally:
            reader.cancel()
            await stream.close()
            await asyncio.gather(reader, return_exceptions=True)


class _Stream:
    """The watches of one stream."""

    def __init__(self, member: Member) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue(QUEUED_MESSAGES)
        self._member = member
        self._watches: dict[int, tuple[StoreWatch, asyncio.Task[None]]] = {}
        self._progress_due: set[int] = set()
        """The watches that have yet to say that they are up to date, before the whole stream is."""
        self._progress_revision: int | None = None
        """Where a progress notification is being gathered: the oldest revision that a watch has said it is at."""
        self._next_id = 0

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Do what the client asks for; at the end of its requests the watches continue."""
        async for request in requests:
            kind = request.WhichOneof("request_union")
            if kind == "create_request":
                await self._create(request.create_request)
            elif kind == "cancel_request":
                await self._cancel(request.cancel_request.watch_id)
            elif kind == "progress_request":
                self._ask_progress()

    async def close(self) -> None:
        tasks = [task for _, task in self._watches.values()]
        for watch, task in self._watches.values():
            watch.end()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _create(self, request: Any) -> None:
        """Open a watch, or refuse it as etcd does."""
        id = request.watch_id
        refused = ""
        if request.start_revision < 0:
            refused = str(Compacted(0))
        elif id and id in self._watches:
            refused = "mvcc: duplicate watch ID provided on the WatchStream"
        elif request.range_end and request.range_end != b"\0" and request.range_end <= request.key:
            refused = "mvcc: watcher range is empty"
        if refused:
            await self._say(watch_id=NO_WATCH, created=True, canceled=True, cancel_reason=refused)
            return
        if not id:
            while self._next_id in self._watches:
                self._next_id += 1
            id = self._next_id
            self._next_id += 1
        watch = await self._member.store.watch(
            WatchRequest(
                request.key or b"\0",
                request.range_end or None,
                request.start_revision,
                request.prev_kv,
                NO_PUT in request.filters,
                NO_DELETE in request.filters,
                request.progress_notify,
                request.fragment,
            )
        )
        await self._say(watch_id=id, created=True)
        self._watches[id] = watch, asyncio.create_task(self._pump(id, watch), name=f"etcd watch {id}")

    async def _cancel(self, id: int) -> None:
        if id in self._watches:
            await self._forget(id)
            await self._say(watch_id=id, canceled=True)
            await self._progress_of(id)

    async def _forget(self, id: int) -> None:
        watch, task = self._watches.pop(id)
        watch.end()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _pump(self, id: int, watch: StoreWatch) -> None:
        """Send a watch's batches until it ends; one that is compacted is canceled."""
        header = self._member.header
        try:
            async for batch in watch:
                if batch.events:
                    events = [write_event(event) for event in batch.events]
                    message = pb.WatchResponse(
                        header=header(batch.revision), watch_id=id, events=events, fragment=batch.fragment
                    )
                    await self.messages.put(message)
                elif id in self._progress_due:
                    await self._progress_of(id)
                else:
                    await self.messages.put(pb.WatchResponse(header=header(batch.revision), watch_id=id))
        except Compacted as error:
            del self._watches[id]
            watch.end()
            await self._say(watch_id=id, canceled=True, compact_revision=error.compact_revision)
            await self._progress_of(id)
        else:
            if id in self._watches:  # the store was closed
                await self.messages.put(None)

    def _ask_progress(self) -> None:
        if self._watches:
            self._progress_revision = self._member.store.hub.revision
            self._progress_due = set(self._watches)
            for watch, _ in self._watches.values():
                watch.want_progress()

    async def _progress_of(self, id: int) -> None:
        """One watch is up to date, or gone; the last one lets the stream say how far all are."""
        self._progress_due.discard(id)
        if self._progress_revision is not None and not self._progress_due:
            revision, self._progress_revision = self._progress_revision, None
            await self.messages.put(pb.WatchResponse(header=self._member.header(revision), watch_id=NO_WATCH))

    async def _say(self, **fields: Any) -> None:
        await self.messages.put(pb.WatchResponse(header=self._member.header(), **fields))
