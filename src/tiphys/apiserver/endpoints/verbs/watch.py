"""Watches: what there is (if requested), what happened since, and from then on every change as it comes.

A watch passes these states in order: initial objects → changes that came meanwhile → member of a group of the cache,
until the client leaves, its time is over, the server stops, or it is too slow. Sources: KEP-3157 (streaming lists), and
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.api import errors
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.convertedwatch import ConvertedChanges
from tiphys.apiserver.endpoints.negotiation import TABLE, Form, negotiate
from tiphys.apiserver.endpoints.options import ListOptions, list_options
from tiphys.apiserver.endpoints.respond import headers_of
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.views import include_of
from tiphys.apiserver.endpoints.watchevents import bookmark, encoder, error_event, failure_event, media_of
from tiphys.apiserver.storage.cacher import READY_SECONDS
from tiphys.apiserver.storage.changes import ADDED, EntryChange
from tiphys.apiserver.storage.converted import ConvertedStore
from tiphys.apiserver.storage.feed import TooLargeRevision
from tiphys.apiserver.storage.listing import parse_revision
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.storage.watchers import Encode, WatcherGroup
from tiphys.wire.http import Response, Sink
from tiphys.wire.websocket import is_websocket

_CHUNK = 256 * 1024
_SHORT = 2.0
"""A watch of fewer seconds gets no bookmark at its end."""


def _drop(data: bytes) -> None:
    """Where writes go once a watch has had its last event."""


class OpenWatch:
    """One open watch, from the side of the cache. ``ended`` is done when the server wants it to end."""

    def __init__(self, sink: Sink, form: Form) -> None:
        self._form = form
        self.write: Callable[[bytes], None] = sink.write
        self._sink = sink
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def buffered(self) -> int:
        return self._sink.buffered

    def cut_off(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.write(failure_event(self._form, error))
            self.write = _drop  # that was the last event
            self.cut_off()


@dataclass(slots=True)
class WatchPlan:
    """What one watch shows. ``start`` is the revision after which changes are shown; None: what exists, first."""

    target: Target
    selection: Selection
    form: Form
    start: int | None
    bookmarks: bool
    ends_initial: bool
    seconds: float
    initialized: Callable[[], None]
    """To be called when what exists has been shown."""


async def watch(call: Call, target: Target) -> Response:
    """Answer with a stream of changes, by HTTP or WebSocket, starting where the options say."""
    form = negotiate(
        call, has_protobuf=target.has_protobuf and not is_websocket(call.request), routed=target.resource.builtin
    )
    if form.kind == TABLE:
        include_of(form)
    options = list_options(call, watch=True)
    name = call.info.name if not options.field_selector else ""
    selection = target.selection(call.info.namespace, options, name)
    plan = WatchPlan(
        target=target,
        selection=selection,
        form=form,
        start=await _start(target, options),
        bookmarks=options.bookmarks,
        ends_initial=bool(options.initial_events),
        seconds=float(options.timeout) if options.timeout else target.watch_seconds,
        initialized=call.on_initialized,
    )

    async def stream(sink: Sink) -> None:
        await _run(plan, sink)

    response = Response(200, headers_of(call, media_of(form)), stream)
    if is_websocket(call.request):
        from tiphys.apiserver.streaming.messages import watch_over_websocket

        return watch_over_websocket(call.request, response)
    return response


async def _start(target: Target, options: ListOptions) -> int | None:
    """The revision to start after, or None to start with what exists."""
    cacher = target.registry.store.cacher
    await cacher.filled(READY_SECONDS)
    revision = parse_revision(options.resource_version)
    if not options.resource_version:
        await cacher.feed.fresh()
    elif options.initial_events and revision:
        try:
            await cacher.feed.reached(revision)
        except TooLargeRevision as error:
            raise errors.too_large_resource_version(error.current, error.requested) from None
    if options.initial_events or (options.initial_events is None and not revision):
        return None
    return revision or cacher.feed.revision


async def _run(plan: WatchPlan, sink: Sink) -> None:
    """Show what the plan says, until the end of the watch; a failure is its last event."""
    try:
        await _show(plan, sink)
    except Exception as error:  # noqa: BLE001 - failure_event logs what nobody expected
        sink.write(failure_event(plan.form, error))
    await sink.drain()


async def _show(plan: WatchPlan, sink: Sink) -> None:
    """Run a watch: initial objects, missed changes, live changes, bookmarks, until its time is over."""
    watch = OpenWatch(sink, plan.form)
    encode = encoder(plan.target, plan.form)
    store = plan.target.registry.store
    cacher = store.cacher
    closed = asyncio.ensure_future(sink.wait_closed())
    deadline = asyncio.get_running_loop().time() + plan.seconds
    converted = ConvertedChanges(store, plan.selection, encode, watch) if isinstance(store, ConvertedStore) else None
    helper = None if converted is None else asyncio.ensure_future(converted.run())
    try:
        revision = plan.start
        if revision is None:
            revision = await _send_existing(plan, sink, encode)
        elif revision > cacher.feed.revision:
            await _wait_for(plan, revision, closed, deadline)
        member = watch if converted is None else converted
        group = _catch_up(plan, member, sink, encode, revision)
        plan.initialized()
        if group is None:
            return
        try:
            await _until_end(watch, closed, deadline)
            is_complete = converted is None or converted.is_idle
            if plan.bookmarks and plan.seconds > _SHORT and is_complete:
                watch.write(bookmark(plan.target, plan.form, cacher.feed.revision))
        finally:
            cacher.watchers.leave(member, group)
    finally:
        closed.cancel()
        if helper is not None:
            helper.cancel()


async def _send_existing(plan: WatchPlan, sink: Sink, encode: Encode) -> int:
    """Show every object that matches; gives the revision at which they were read."""
    store = plan.target.registry.store
    revision = store.cacher.feed.revision
    entries = await store.select(plan.selection)
    size = 0
    for entry in entries:
        line = encode(ADDED, entry, EntryChange(entry.revision, entry, None))
        sink.write(line)
        size += len(line)
        if size > _CHUNK:
            await sink.drain()
            await asyncio.sleep(0)  # a reader that keeps up must not keep others waiting
            size = 0
    if plan.ends_initial and plan.bookmarks:
        sink.write(bookmark(plan.target, plan.form, revision, {"k8s.io/initial-events-end": "true"}))
    return revision


async def _wait_for(plan: WatchPlan, revision: int, closed: asyncio.Future[None], deadline: float) -> None:
    """Until a revision that lies in the future is there; its changes are not to be shown."""
    feed = plan.target.registry.store.cacher.feed
    left = deadline - asyncio.get_running_loop().time()
    reached = asyncio.ensure_future(feed.reached(revision, timeout=left))
    await asyncio.wait((reached, closed), return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    await asyncio.gather(reached, return_exceptions=True)


def _catch_up(
    plan: WatchPlan, member: OpenWatch | ConvertedChanges, sink: Sink, encode: Encode, revision: int
) -> WatcherGroup | None:
    """Show what changed after ``revision`` and join the group, in one step, so that nothing is missed or doubled."""
    cacher = plan.target.registry.store.cacher
    missed = cacher.since(revision)
    if missed is None:
        message = f"too old resource version: {revision} ({cacher.oldest})"
        sink.write(error_event(plan.form, errors.expired(message)))
        return None
    selection = plan.selection
    if isinstance(member, ConvertedChanges):
        selection, encode = member.selection, member.take
    group = cacher.watchers.join(member, selection, form_key(plan, member), encode)
    if plan.bookmarks and group.bookmark is None:
        group.bookmark = lambda at: bookmark(plan.target, plan.form, at)
    if missed and (data := group.render(missed)):
        sink.write(data)
    return group


async def _until_end(watch: OpenWatch, closed: asyncio.Future[None], deadline: float) -> None:
    left = max(deadline - asyncio.get_running_loop().time(), 0)
    await asyncio.wait((watch.ended, closed), timeout=left, return_when=asyncio.FIRST_COMPLETED)


def form_key(plan: WatchPlan, watch: OpenWatch | ConvertedChanges) -> tuple[object, ...]:
    """Watches with equal keys get the same bytes. A table's first event has the columns, so tables are not shared."""
    own = id(watch) if plan.form.kind == TABLE or isinstance(watch, ConvertedChanges) else 0
    gvk = plan.target.gvk
    return (gvk.group, gvk.version, plan.form, plan.bookmarks, own)
