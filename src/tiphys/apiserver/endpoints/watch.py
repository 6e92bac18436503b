"""Watches: what there is (where asked for), what happened since, and from then on every change as it comes.

A watch passes these states in order: initial objects → changes that came meanwhile → member of a group of the cache,
until the client leaves, its time is over, the server stops, or it is too slow. Sources: KEP-3157 (streaming lists), and
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON
from tiphys.apiserver.endpoints.negotiation import TABLE, Form, negotiate
from tiphys.apiserver.endpoints.options import ListOptions, list_options
from tiphys.apiserver.endpoints.respond import headers_of, read_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.views import include_of, partial, table
from tiphys.apiserver.storage.cacher import READY_SECONDS
from tiphys.apiserver.storage.changes import ADDED, BOOKMARK, ERROR, Change, event_line
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.feed import TooLargeRevision
from tiphys.apiserver.storage.listing import parse_revision
from tiphys.apiserver.storage.selection import Selection
from tiphys.apiserver.storage.watchers import Encode, Group
from tiphys.wire.http import Response, Sink
from tiphys.wire.websocket import is_websocket

log = logging.getLogger(__name__)

Object = dict[str, Any]

_CHUNK = 256 * 1024
_SHORT = 2.0
"""A watch of fewer seconds gets no bookmark at its end."""


def _drop(data: bytes) -> None:
    """Where writes go once a watch has had its last event."""


class OpenWatch:
    """One open watch, from the side of the cache. ``ended`` is done when the server wants it to end."""

    def __init__(self, sink: Sink) -> None:
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
            self.write(failure_line(error))
            self.write = _drop  # that was the last event
            self.cut_off()


@dataclass(slots=True)
class Plan:
    """What one watch shows. ``start`` is the revision after which changes are shown; None: what exists, first."""

    target: Target
    selection: Selection
    form: Form
    start: int | None
    bookmarks: bool
    ends_initial: bool
    seconds: float


async def watch(call: Call, target: Target) -> Response:
    form = negotiate(call)
    if form.kind == TABLE:
        include_of(form)
    options = list_options(call, watch=True)
    name = call.info.name if not options.field_selector else ""
    selection = target.selection(call.info.namespace, options, name)
    plan = Plan(
        target=target,
        selection=selection,
        form=form,
        start=await _start(target, options),
        bookmarks=options.bookmarks,
        ends_initial=bool(options.initial_events),
        seconds=float(options.timeout) if options.timeout else target.watch_seconds,
    )

    async def stream(sink: Sink) -> None:
        await _run(plan, sink)

    response = Response(200, headers_of(call, JSON), stream)
    if is_websocket(call.request):
        from tiphys.apiserver.streaming.messages import watch_over_websocket

        return watch_over_websocket(call.request, response)
    return response


async def _start(target: Target, options: ListOptions) -> int | None:
    """The revision to start after, or None to start with what exists."""
    cacher = target.registry.store.cacher
    await cacher.ready(READY_SECONDS)
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


async def _run(plan: Plan, sink: Sink) -> None:
    """Show what the plan says, until the end of the watch; a failure is its last event."""
    try:
        await _show(plan, sink)
    except Exception as error:  # noqa: BLE001 - failure_line logs what nobody expected
        sink.write(failure_line(error))
    await sink.drain()


async def _show(plan: Plan, sink: Sink) -> None:
    watch, encode = OpenWatch(sink), encoder(plan)
    cacher = plan.target.registry.store.cacher
    closed = asyncio.ensure_future(sink.wait_closed())
    deadline = asyncio.get_running_loop().time() + plan.seconds
    try:
        revision = plan.start
        if revision is None:
            revision = await _send_existing(plan, sink, encode)
        elif revision > cacher.feed.revision:
            await _wait_for(plan, revision, closed, deadline)
        group = _catch_up(plan, watch, sink, encode, revision)
        if group is None:
            return
        try:
            await _until_end(watch, closed, deadline)
            if plan.bookmarks and plan.seconds > _SHORT:
                watch.write(bookmark(plan.target, plan.form, cacher.feed.revision))
        finally:
            cacher.watchers.leave(watch, group)
    finally:
        closed.cancel()


async def _send_existing(plan: Plan, sink: Sink, encode: Encode) -> int:
    """Show every object that matches; gives the revision at which they were read."""
    cacher = plan.target.registry.store.cacher
    revision = cacher.feed.revision
    entries = cacher.select(plan.selection)
    size = 0
    for entry in entries:
        line = encode(ADDED, entry, Change(entry.revision, entry, None))
        sink.write(line)
        size += len(line)
        if size > _CHUNK:
            await sink.drain()
            size = 0
    if plan.ends_initial and plan.bookmarks:
        sink.write(bookmark(plan.target, plan.form, revision, {"k8s.io/initial-events-end": "true"}))
    return revision


async def _wait_for(plan: Plan, revision: int, closed: asyncio.Future[None], deadline: float) -> None:
    """Until a revision that lies in the future is there; its changes are not to be shown."""
    feed = plan.target.registry.store.cacher.feed
    left = deadline - asyncio.get_running_loop().time()
    reached = asyncio.ensure_future(feed.reached(revision, timeout=left))
    await asyncio.wait((reached, closed), return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    await asyncio.gather(reached, return_exceptions=True)


def _catch_up(plan: Plan, watch: OpenWatch, sink: Sink, encode: Encode, revision: int) -> Group | None:
    """Show what changed after ``revision`` and join the group, in one step, so that nothing is missed or doubled."""
    cacher = plan.target.registry.store.cacher
    missed = cacher.since(revision)
    if missed is None:
        message = f"too old resource version: {revision} ({cacher.oldest})"
        sink.write(error_line(errors.expired(message)))
        return None
    group = cacher.watchers.join(watch, plan.selection, form_key(plan, watch), encode)
    if plan.bookmarks and group.bookmark is None:
        group.bookmark = lambda at: bookmark(plan.target, plan.form, at)
    if missed and (data := group.render(missed)):
        sink.write(data)
    return group


async def _until_end(watch: OpenWatch, closed: asyncio.Future[None], deadline: float) -> None:
    left = max(deadline - asyncio.get_running_loop().time(), 0)
    await asyncio.wait((watch.ended, closed), timeout=left, return_when=asyncio.FIRST_COMPLETED)


# -- forms


def form_key(plan: Plan, watch: OpenWatch) -> tuple[object, ...]:
    """Watches with equal keys get the same bytes. A table's first event has the columns, so tables are not shared."""
    own = id(watch) if plan.form.kind == TABLE else 0
    gvk = plan.target.gvk
    return (gvk.group, gvk.version, plan.form, plan.bookmarks, own)


def encoder(plan: Plan) -> Encode:
    """How an event is written in the form of a watch."""
    target, form = plan.target, plan.form
    if form.is_plain and target.is_stored_version:
        head = target.head
        return lambda type, entry, change: change.line(type, entry, head)
    if form.kind == TABLE:
        return _table_encoder(target, form)

    def encode(type: str, entry: Entry, change: Change) -> bytes:
        obj = read_entry(target, entry)
        return _line(type, partial(obj, form) if form.kind else obj)

    return encode


def _table_encoder(target: Target, form: Form) -> Encode:
    sent_columns = False

    def encode(type: str, entry: Entry, change: Change) -> bytes:
        nonlocal sent_columns
        meta = {"resourceVersion": str(entry.revision)}
        found = table(target, [read_entry(target, entry)], form, meta, headers=not sent_columns)
        sent_columns = True
        return _line(type, found)

    return encode


def _line(type: str, obj: Object) -> bytes:
    return orjson.dumps({"type": type, "object": obj}) + b"\n"


def bookmark(target: Target, form: Form, revision: int, annotations: dict[str, str] | None = None) -> bytes:
    """The event that tells how far a watch is."""
    meta: Object = {"resourceVersion": str(revision)}
    if annotations:
        meta["annotations"] = annotations
    if form.kind:
        return _line(BOOKMARK, partial({"metadata": meta}, form))
    return event_line(BOOKMARK, target.head, b'"metadata":%b}' % orjson.dumps(meta))


def failure_line(error: Exception) -> bytes:
    """The event that ends a watch that cannot go on."""
    if isinstance(error, errors.StatusError):
        return error_line(error)
    log.error("a watch failed", exc_info=error)
    return error_line(errors.internal(error))


def error_line(error: errors.StatusError) -> bytes:
    return _line(ERROR, error.status)
