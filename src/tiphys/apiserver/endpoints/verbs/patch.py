"""PATCH: a change to the newest state of an object; and server-side apply, which creates if there is nothing.

The patch is applied again to each state that the update tries. Source:
https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.api import errors
from tiphys.api.apply import apply, read_applied
from tiphys.api.object import Object
from tiphys.api.patch import APPLY_PATCH, JSON_PATCH
from tiphys.apiserver.admission.attributes import CREATE, UPDATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.aside import aside
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import WriteOptions, write_options
from tiphys.apiserver.endpoints.respond import show_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.versions import Versions
from tiphys.apiserver.endpoints.writing import (
    attributes_of,
    check_name,
    creation_validator,
    dedup_owner_references,
    manage,
    update_validator,
)
from tiphys.apiserver.registry import updating
from tiphys.apiserver.registry.creating import match_namespace
from tiphys.wire.http import Response

Change = Callable[[Object | None], Object]
"""From the object as the path shows it (None if none exists) to the changed one, managed fields included."""


async def patch(call: Call, target: Target, admission: AdmissionChain) -> Response:
    """Apply a patch of any of the four kinds, or an apply configuration; returns the object, 201 if created."""
    media = _media(call, target)
    form = negotiate(
        call, has_columns=target.has_columns, has_protobuf=target.has_protobuf, routed=target.resource.builtin
    )
    options = write_options(call, "PatchOptions", apply=media == APPLY_PATCH)
    write = target.write_context(call, options, target.subresource)
    write.big = write.big or (media == JSON_PATCH and _may_copy(call.request.body))

    versions = Versions(target)

    def read() -> Change:
        return _change(call, target, media, options, write.now, versions)

    change = await aside(read) if write.big else read()

    async def transform(stored: Object | None) -> Object:
        def changed() -> tuple[Object | None, Object]:
            old = None if stored is None else target.working(stored)
            return old, change(old)

        call.big = write.big
        old, new = await versions.settle(changed, big=write.big)
        _check(call, target, old, new, write.namespace)
        attributes = attributes_of(call, target, CREATE if old is None else UPDATE, options)
        attributes.object, attributes.old = new, old
        await admission.mutate(attributes)
        await dedup_owner_references(attributes.new(), call, admitted=True)
        return target.merge(stored, attributes.new())

    update = updating.Update(
        namespace=write.namespace,
        name=call.info.name,
        transform=transform,
        rules=target.rules,
        validate=update_validator(call, target, admission, options),
        validate_create=creation_validator(call, target, admission, options),
        create=media == APPLY_PATCH and not target.subresource,
    )
    entry, created = await updating.update(target.registry, update, write)
    return show_entry(call, target, entry, form, 201 if created else 200)


def _may_copy(body: bytes) -> bool:
    """Whether a JSON patch may make much of little; letters can be written as escapes."""
    return b"copy" in body or b"\\u" in body


def _media(call: Call, target: Target) -> str:
    media = call.request.headers.get("content-type", "").partition(";")[0].strip()
    if media not in target.patch_types:
        if target.resource.custom:
            raise errors.unsupported_media_type(target.patch_types)
        raise errors.StatusError(errors.status(415, "UnsupportedMediaType", "415: Unsupported Media Type", {}))
    return media


def _check(call: Call, target: Target, old: Object | None, new: Object, namespace: str) -> None:
    meta = new["metadata"]
    if old is None and meta.get("uid"):
        reason = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
        raise errors.conflict(target.resource.group, target.resource.plural, call.info.name, reason)
    if target.resource.namespaced:
        match_namespace(meta, namespace)
    check_name(new, call.info.name, namespace)


def _change(call: Call, target: Target, media: str, options: WriteOptions, now: str, versions: Versions) -> Change:
    if media == APPLY_PATCH:
        return _apply(call, target, options, now, versions)

    def change(old: Object | None) -> Object:
        if old is None:
            raise errors.not_found(target.resource.group, target.resource.plural, call.info.name)
        decoded = target.patch(old, call.request.body, media, options.field_validation)
        for warning in decoded.warnings:
            call.warn(warning)
        call.empties[:] = decoded.empties
        return manage(target, old, target.prepared(decoded.object), options, now, versions)

    return change


def _apply(call: Call, target: Target, options: WriteOptions, now: str, versions: Versions) -> Change:
    """The change that a server-side apply makes. Raises 400 and 409."""
    applied, doubled = read_applied(call.request.body)

    def change(old: Object | None) -> Object:
        merged = apply(
            old,
            applied,
            options.manager,
            force=options.force,
            gvk=target.gvk,
            schema=target.schema,
            now=now,
            subresource=target.subresource,
            filters=target.filters,
            convert=versions.convert,
        )
        # Repeated keys are reported last: what apply has against the object counts more.
        if doubled and options.field_validation == "Strict":
            lines = "".join(f"\n  {line}" for line in doubled)
            raise errors.bad_request(
                f"error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:{lines}"
            )
        for line in doubled if options.field_validation == "Warn" else ():
            call.warn(line)
        return target.applied(merged)

    return change
