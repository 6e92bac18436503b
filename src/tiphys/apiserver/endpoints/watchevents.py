"""How the events of a watch are written: lines of JSON, or framed protobuf messages.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import logging

import orjson

from tiphys.api import errors, protobuf
from tiphys.api.object import Object
from tiphys.apiserver.endpoints.accept import JSON, PROTOBUF
from tiphys.apiserver.endpoints.negotiation import PARTIAL_LIST, TABLE, Form
from tiphys.apiserver.endpoints.respond import entry_message, read_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.views import partial, table
from tiphys.apiserver.storage.changes import BOOKMARK, ERROR, EntryChange, event_line
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.watchers import Encode

log = logging.getLogger(__name__)


def media_of(form: Form) -> str:
    """The content type of a watch."""
    return f"{PROTOBUF};stream=watch" if form.media == PROTOBUF else JSON


def event(form: Form, type: str, obj: Object) -> bytes:
    """One event with any object."""
    if form.media == PROTOBUF:
        return protobuf.watch_event(type, protobuf.encode(obj))
    return orjson.dumps({"type": type, "object": obj}) + b"\n"


class NoForm(Exception):
    """An event has no form that was requested: the watch ends without a word, as upstream's does."""


def encoder(target: Target, form: Form) -> Encode:
    """How an event about an entry is written in the form of a watch. An object is no list of metadata: ``NoForm``."""
    if form.is_plain and target.is_stored_version:
        head = target.head
        return lambda type, entry, change: change.line(type, entry, head)
    if form.is_protobuf:
        return _message_encoder(target)
    if form.kind == TABLE:
        return _table_encoder(target, form)

    def encode(type: str, entry: Entry, change: EntryChange) -> bytes:
        if form.kind == PARTIAL_LIST:
            raise NoForm
        obj = read_entry(target, entry)
        return event(form, type, partial(obj, form) if form.kind else obj)

    return encode


def _message_encoder(target: Target) -> Encode:
    api_version, kind = target.gvk.api_version, target.gvk.kind

    def encode(type: str, entry: Entry, change: EntryChange) -> bytes:
        return protobuf.watch_event(type, protobuf.wrap(api_version, kind, entry_message(target, entry)))

    return encode


def _table_encoder(target: Target, form: Form) -> Encode:
    sent_columns = False

    def encode(type: str, entry: Entry, change: EntryChange) -> bytes:
        nonlocal sent_columns
        meta = {"resourceVersion": str(entry.revision)}
        rows = table(target, [read_entry(target, entry)], form, meta, headers=not sent_columns)
        sent_columns = True
        return event(form, type, rows)

    return encode


def bookmark(target: Target, form: Form, revision: int, annotations: dict[str, str] | None = None) -> bytes:
    """The event that says how far a watch is."""
    meta: Object = {"resourceVersion": str(revision)}
    if annotations:
        meta["annotations"] = annotations
    if form.kind:
        return event(form, BOOKMARK, partial({"metadata": meta}, form))
    if form.media == PROTOBUF:
        gvk = target.gvk
        return event(form, BOOKMARK, {"apiVersion": gvk.api_version, "kind": gvk.kind, "metadata": meta})
    return event_line(BOOKMARK, target.head, b'"metadata":%b}' % orjson.dumps(meta))


def failure_event(form: Form, error: Exception) -> bytes:
    """The event that ends a watch that cannot continue; nothing if it is to end without one."""
    if isinstance(error, NoForm):
        return b""
    if isinstance(error, errors.StatusError):
        return error_event(form, error)
    log.error("a watch failed", exc_info=error)
    return error_event(form, errors.internal(error))


def error_event(form: Form, error: errors.StatusError) -> bytes:
    return event(form, ERROR, error.status)
