"""Answers: objects, lists and Status objects in the form that was negotiated, with the headers that go with them.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import orjson

from tiphys.api import codec, errors, protobuf
from tiphys.api.object import Object
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.accept import JSON, PROTOBUF, YAML, not_acceptable
from tiphys.apiserver.endpoints.negotiation import PARTIAL, PARTIAL_LIST, PLAIN, TABLE, Form, negotiate_failure
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.views import partial, table
from tiphys.apiserver.endpoints.warningfields import warning_fields
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.listing import Page
from tiphys.wire.http import Response

_GZIP_FROM = 128 * 1024
GZIP_LEVEL = 1


def show_entry(call: Call, target: Target, entry: Entry, form: Form = PLAIN, status: int = 200) -> Response:
    """One object of the registry."""
    if form.is_plain and target.is_stored_version:
        return body(call, status, JSON, b"%b%b\n" % (target.head, entry.body))
    if form.is_protobuf:
        gvk = target.gvk
        return body(call, status, PROTOBUF, protobuf.wrap(gvk.api_version, gvk.kind, entry_message(target, entry)))
    return show_object(call, target, read_entry(target, entry), form, status)


def read_entry(target: Target, entry: Entry) -> Object:
    """The object in the version of the call."""
    return target.show(target.registry.object(entry))


def entry_message(target: Target, entry: Entry) -> bytes:
    """The object as a protobuf message in the version of the call; of the stored version it is kept."""
    if not target.is_stored_version:
        return protobuf.message_of(target.message, read_entry(target, entry))
    if entry.message is None:
        entry.message = protobuf.message_of(target.message, target.registry.object(entry))
    return entry.message


def show_object(call: Call, target: Target, obj: Object, form: Form = PLAIN, status: int = 200) -> Response:
    if form.kind == TABLE:
        version = obj["metadata"].get("resourceVersion")
        obj = table(target, [obj], form, {"resourceVersion": version} if version else {})
    elif form.kind == PARTIAL:
        obj = partial(obj, form)
    elif form.kind:
        asked = f"you requested {form.kind}, but the requested object is not a list"
        raise not_acceptable(f"{asked} (*{codec.internal_type(target.gvk)})")
    return show(call, obj, form, status)


def show_page(call: Call, target: Target, page: Page, form: Form) -> Response:
    """A list of objects of the registry, with a warning for each that cannot be read."""
    meta = list_meta(call, target, page, form)
    if form.is_plain and target.is_stored_version:
        return body(call, 200, JSON, join(target, meta, page.entries))
    if form.is_protobuf:
        messages = [entry_message(target, entry) for entry in page.entries]
        kind = target.resource.list_kind
        return body(call, 200, PROTOBUF, b"".join(protobuf.join(target.gvk.api_version, kind, meta, messages)))
    objects = [read_entry(target, entry) for entry in page.entries]
    return show_list(call, target, objects, meta, form)


def list_meta(call: Call, target: Target, page: Page, form: Form) -> Object:
    """The metadata of a page; warns of what is left out."""
    for hidden in page.hidden:
        call.warn(f'object "{hidden.key}" cannot be read and is left out: {hidden.why}')
    meta: Object = {"resourceVersion": str(page.revision)}
    if page.token or (target.resource.custom and not form.kind):
        meta["continue"] = page.token
    if page.remaining is not None:
        meta["remainingItemCount"] = page.remaining
    return meta


def start_of_list(target: Target, meta: Object) -> bytes:
    """The text of a list up to its first item."""
    kind, version = target.resource.list_kind.encode(), target.gvk.api_version.encode()
    return b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (kind, version, orjson.dumps(meta))


def join(target: Target, meta: Object, entries: Sequence[Entry]) -> bytes:
    """A list as text, from the texts of its items."""
    start = start_of_list(target, meta)
    if not entries:
        return start + b"]}\n"
    separator = b"," + target.item_head
    first, *rest = [entry.body for entry in entries]
    return separator.join([start + target.item_head + first, *rest]) + b"]}\n"


def show_list(call: Call, target: Target, objects: list[Object], meta: Object, form: Form) -> Response:
    """``objects`` in the version of the call."""
    if form.kind == TABLE:
        return show(call, table(target, objects, form, meta), form)
    if form.kind == PARTIAL:
        asked = f"you requested {form.kind}, but the requested object is a list"
        raise not_acceptable(f"{asked} (*{codec.internal_type(target.gvk)}List)")
    if form.kind == PARTIAL_LIST:
        api_version = f"meta.k8s.io/{form.version}"
        items = [partial(obj, form) for obj in objects]
        return show(
            call, {"kind": form.kind, "apiVersion": api_version, "metadata": meta, "items": items or None}, form
        )
    if target.resource.builtin:
        objects = [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in objects]
    gvk = target.gvk
    listing = {"kind": target.resource.list_kind, "apiVersion": gvk.api_version, "metadata": meta, "items": objects}
    return show(call, listing, form)


def show(call: Call, obj: Object, form: Form = PLAIN, status: int = 200) -> Response:
    """Any object, as JSON, YAML or protobuf."""
    if form.media == PROTOBUF:
        return body(call, status, PROTOBUF, protobuf.encode(obj))
    if form.media == YAML:
        return body(call, status, YAML, codec.to_yaml(orjson.dumps(obj)))
    option = orjson.OPT_INDENT_2 if form.pretty else orjson.OPT_APPEND_NEWLINE
    return body(call, status, JSON, orjson.dumps(obj, option=option))


def wants_gzip(call: Call) -> bool:
    """Whether the client accepts an answer that is compressed."""
    return "gzip" in call.request.headers.get("accept-encoding", "")


def headers_of(call: Call, media: str) -> dict[str, str]:
    headers = {"Content-Type": media}
    if call.warnings:
        headers["Warning"] = warning_fields(call.warnings)
    return headers


def body(call: Call, status: int, media: str, data: bytes) -> Response:
    headers = headers_of(call, media)
    if len(data) > _GZIP_FROM and wants_gzip(call):
        compressor = zlib.compressobj(GZIP_LEVEL, wbits=31)
        data = compressor.compress(data) + compressor.flush()
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
    return Response(status, headers, data)


def failure(call: Call | None, error: errors.StatusError) -> Response:
    """The answer to a request that failed."""
    if call is None:
        return Response(error.code, {"Content-Type": JSON, **error.headers}, orjson.dumps(error.status))
    response = show(call, error.status, negotiate_failure(call), error.code)
    response.headers.update(error.headers)
    return response
