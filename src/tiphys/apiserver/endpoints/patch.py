"""PATCH: a change to the newest state of an object; and server-side apply, which creates where there is nothing.

The patch is applied anew to each state that the update tries. Source:
https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tiphys.api import apply as apply_engine
from tiphys.api import codec, errors, fielderrors
from tiphys.api import patch as patches
from tiphys.apiserver.admission.attributes import CREATE, UPDATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import WriteOptions, write_options
from tiphys.apiserver.endpoints.respond import show_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import (
    attributes_of,
    check_name,
    dedup_owner_references,
    manage,
    update_validator,
    validator,
)
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.wire.http import Response

Object = dict[str, Any]
Change = Callable[[Object | None], Object]
"""From the object as the path shows it (None where there is none) to the changed one, managed fields included."""

JSON_PATCH, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
_MEDIA = (JSON_PATCH, MERGE, STRATEGIC, APPLY)


async def patch(call: Call, target: Target, admission: AdmissionChain) -> Response:
    media = _media(call, target)
    form = negotiate(call)
    options = write_options(call, "PatchOptions", apply=media == APPLY)
    write = target.write(call, options, target.subresource)
    change = _change(call, target, media, options, write.now)

    async def transform(stored: Object | None) -> Object:
        old = None if stored is None else target.show(stored)
        new = change(old)
        _check(call, target, old, new, write.namespace)
        attributes = attributes_of(call, target, CREATE if old is None else UPDATE, options)
        attributes.object, attributes.old = new, old
        await admission.mutate(attributes)
        dedup_owner_references(attributes.new(), call)
        return target.merge(stored, attributes.new())

    update = updating.Update(
        namespace=write.namespace,
        name=call.info.name,
        transform=transform,
        rules=target.rules,
        validate=update_validator(call, target, admission, options),
        validate_create=validator(call, target, admission, options),
        create=media == APPLY and not target.subresource,
    )
    entry, created = await updating.update(target.registry, update, write)
    return show_entry(call, target, entry, form, 201 if created else 200)


def _media(call: Call, target: Target) -> str:
    media = call.request.headers.get("content-type", "").partition(";")[0].strip()
    accepted = _MEDIA if target.resource.builtin else (JSON_PATCH, MERGE, APPLY)
    if media not in accepted:
        raise errors.unsupported_media_type(accepted)
    return media


def _check(call: Call, target: Target, old: Object | None, new: Object, namespace: str) -> None:
    meta = new["metadata"]
    if old is None and meta.get("uid"):
        reason = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
        raise errors.conflict(target.resource.group, target.resource.plural, call.info.name, reason)
    if target.resource.namespaced:
        match_namespace(meta, namespace)
    check_name(new, call.info.name, namespace)


def _change(call: Call, target: Target, media: str, options: WriteOptions, now: str) -> Change:
    if media == APPLY:
        return _apply(call, target, options, now)
    make = {JSON_PATCH: _json_patch, MERGE: _merge_patch, STRATEGIC: _strategic_patch}[media]
    patched = make(call, target, options)

    def change(old: Object | None) -> Object:
        if old is None:
            raise errors.not_found(target.resource.group, target.resource.plural, call.info.name)
        return manage(target, old, patched(old), options, now)

    return change


Patched = Callable[[Object], Object]


def _json_patch(call: Call, target: Target, options: WriteOptions) -> Patched:
    operations = patches.read_json_patch(call.request.body)
    return lambda old: _decoded(call, target, options, patches.json_patch(old, operations))


def _merge_patch(call: Call, target: Target, options: WriteOptions) -> Patched:
    body = _read(call)
    return lambda old: _decoded(call, target, options, patches.merge_patch(old, body))


def _strategic_patch(call: Call, target: Target, options: WriteOptions) -> Patched:
    body = _read(call)
    if not isinstance(body, dict):
        raise errors.bad_request("the patch must be an object")

    def patched(old: Object) -> Object:
        return _decoded(call, target, options, patches.strategic_merge_patch(old, body, target.schema))

    return patched


def _read(call: Call) -> Any:
    try:
        return orjson.loads(call.request.body)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from None


def _decoded(call: Call, target: Target, options: WriteOptions, obj: Object) -> Object:
    """The patched object as decoding leaves it: checked against its types, with defaults."""
    text = orjson.dumps(obj)
    try:
        decoded = codec.decode(text, "application/json", target.gvk, target.schema, options.field_validation)
    except errors.StatusError as error:
        reason = error.message.partition(f"cannot be handled as a {target.gvk.kind}: ")[2] or error.message
        found = fielderrors.invalid("patch", text.decode(), reason)
        raise errors.invalid("", "", "", [found]) from None
    for warning in decoded.warnings:
        call.warn(warning)
    return target.prepared(decoded.object)


def _apply(call: Call, target: Target, options: WriteOptions, now: str) -> Change:
    applied = apply_engine.read_applied(call.request.body)

    def change(old: Object | None) -> Object:
        merged = apply_engine.apply(
            old, applied, options.manager, options.force, target.gvk, target.schema, now, target.subresource
        )
        return target.prepared(merged)

    return change
