"""What the writing verbs share: attributes for admission, managed fields, and small checks of metadata.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tiphys.api import errors
from tiphys.api.apply import update_managed_fields
from tiphys.api.meta.fingerprints import fingerprint
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, DELETE, UPDATE, Attributes
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.aside import aside
from tiphys.apiserver.authz.authorizer import Decision, Verdict, access_of, refuse
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.options import WriteOptions
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.versions import Versions


def attributes_of(call: Call, target: Target, operation: str, options: WriteOptions) -> Attributes:
    """The attributes of a write, without its objects."""
    info = call.info
    return Attributes(
        operation=operation,
        resource=target.resource,
        kind=target.gvk,
        version=target.version,
        user=call.user,
        namespace=info.namespace,
        name=info.name,
        subresource=info.subresource,
        dry_run=options.dry_run,
        options=_operation_options(call, operation, options),
        warnings=call.warnings,
        annotate=call.annotate,
        annotate_request=call.annotate_request,
        renew=target.renew,
        big=call.big,
    )


_OPTIONS = {CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions"}
_PLAIN: dict[str, Object] = {
    operation: {"kind": kind, "apiVersion": "meta.k8s.io/v1"} for operation, kind in _OPTIONS.items()
}


def _operation_options(call: Call, operation: str, options: WriteOptions) -> Object:
    """The options of the request, as admission is shown them; connections have none."""
    plain = _PLAIN.get(operation, {})
    if not plain or (not call.parameters and options.delete is None):
        return plain
    result = dict(plain)
    if options.delete is not None:
        result |= options.delete.as_object()
    if options.dry_run:
        result["dryRun"] = ["All"]
    if operation != DELETE:
        result |= {name: call.parameter(name) for name in ("fieldManager", "fieldValidation") if call.parameter(name)}
    return result


def manage(
    target: Target, old: Object | None, new: Object, options: WriteOptions, now: str, versions: Versions
) -> Object:
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
        convert=versions.convert,
        recent=target.recent,
    )


def validator(call: Call, target: Target, admission: AdmissionChain, options: WriteOptions) -> Validate:
    """Validating admission for an object that is about to be created; it is given the stored version."""

    async def validate(obj: Object) -> None:
        attributes = attributes_of(call, target, CREATE, options)
        attributes.name = obj["metadata"].get("name", "")
        attributes.object = target.judged(obj)
        await admission.validate(attributes)

    return validate


def creation_validator(call: Call, target: Target, admission: AdmissionChain, options: WriteOptions) -> Validate:
    """The same for a write that makes its object although its verb is another: it needs the right to create, too."""
    admit = validator(call, target, admission, options)

    async def validate(obj: Object) -> None:
        reason = await call.refusal("create")
        if reason is not None:
            access = access_of(call.user, call.info)._replace(verb="create")
            raise refuse(access, Decision(Verdict.NO_OPINION, reason))
        await admit(obj)

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


async def dedup_owner_references(obj: Object, call: Call, *, admitted: bool = False) -> None:
    """Owner references that are repeated are kept once, with a warning; ``admitted`` is after mutating admission."""
    meta = obj["metadata"]
    references = meta.get("ownerReferences")
    if not references or len(references) < 2:
        return
    few = len(references) <= _FEW_OWNERS
    kept, doubled = _once(references) if few else await aside(lambda: _once(references))
    if doubled:
        meta["ownerReferences"] = kept
        after = " after mutating admission happens" if admitted else ""
        call.warn(
            f".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+,"
            " and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed:"
            f" {', '.join(doubled)}"
        )


_FEW_OWNERS = 1000


def _once(references: list[Object]) -> tuple[list[Object], list[str]]:
    """The references, each once, and the UIDs of those that were repeated."""
    kept: dict[str, Object] = {}
    doubled: list[str] = [
        reference.get("uid", "")
        for reference in references
        if kept.setdefault(fingerprint(reference), reference) is not reference
    ]
    return list(kept.values()), doubled
