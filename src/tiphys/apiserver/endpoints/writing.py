"""What the writing verbs share: attributes for admission, managed fields, and small checks of metadata."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tiphys.api import errors
from tiphys.api.apply import update_managed_fields
from tiphys.apiserver.admission.attributes import CREATE, UPDATE, Attributes
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.options import WriteOptions
from tiphys.apiserver.endpoints.target import Target

Object = dict[str, Any]


def attributes_of(call: Call, target: Target, operation: str, options: WriteOptions) -> Attributes:
    """The attributes of a write, without its objects."""
    info = call.info
    return Attributes(
        operation=operation,
        resource=target.resource,
        kind=target.gvk,
        user=call.user,
        namespace=info.namespace,
        name=info.name,
        subresource=info.subresource,
        dry_run=options.dry_run,
        warnings=call.warnings,
    )


def manage(target: Target, old: Object | None, new: Object, options: WriteOptions, now: str) -> Object:
    """``new`` with the managed fields of this write."""
    return update_managed_fields(
        old,
        new,
        options.manager,
        target.gvk,
        target.schema,
        now,
        target.subresource,
        filters=target.filters,
        convert=target.converter,
    )


def validator(call: Call, target: Target, admission: AdmissionChain, options: WriteOptions) -> Validate:
    """Validating admission for an object that is about to be created; it is given the stored version."""

    async def validate(obj: Object) -> None:
        attributes = attributes_of(call, target, CREATE, options)
        attributes.name = obj["metadata"].get("name", "")
        attributes.object = target.judged(obj)
        await admission.validate(attributes)

    return validate


def update_validator(call: Call, target: Target, admission: AdmissionChain, options: WriteOptions) -> ValidateUpdate:
    async def validate(new: Object, old: Object) -> None:
        attributes = attributes_of(call, target, UPDATE, options)
        attributes.object, attributes.old = target.judged(new), target.judged(old)
        await admission.validate(attributes)

    return validate


Validate = Callable[[Object], Awaitable[None]]
ValidateUpdate = Callable[[Object, Object], Awaitable[None]]


def check_name(obj: Object, name: str, namespace: str) -> None:
    """The object in the body must be the one that the path names."""
    meta = obj.get("metadata") or {}
    own = meta.get("name", "")
    if not own:
        raise errors.bad_request(
            f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )
    if own != name:
        raise errors.bad_request(f"the name of the object ({own}) does not match the name on the URL ({name})")
    if namespace and meta.get("namespace") and meta["namespace"] != namespace:
        raise errors.bad_request(
            f"the namespace of the object ({meta['namespace']}) does not match"
            f" the namespace on the request ({namespace})"
        )


def dedup_owner_references(obj: Object, call: Call, admitted: bool = False) -> None:
    """Owner references that come twice are kept once, with a warning; ``admitted`` is after mutating admission."""
    meta = obj["metadata"]
    references = meta.get("ownerReferences")
    if not references or len(references) < 2:
        return
    kept: list[Object] = []
    doubled: list[str] = []
    for reference in references:
        if reference in kept:
            doubled.append(reference.get("uid", ""))
        else:
            kept.append(reference)
    if doubled:
        meta["ownerReferences"] = kept
        after = " after mutating admission happens" if admitted else ""
        call.warn(
            f".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+,"
            " and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed:"
            f" {', '.join(doubled)}"
        )
