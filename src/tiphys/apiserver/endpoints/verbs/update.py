"""PUT of an object, or of a part of it that is a subresource.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE, UPDATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.aside import aside
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
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


async def update(call: Call, target: Target, admission: AdmissionChain) -> Response:
    """Replace the object, or a subresource of it; returns it, 201 if it was created."""
    form = negotiate(
        call, has_columns=target.has_columns, has_protobuf=target.has_protobuf, routed=target.resource.builtin
    )
    options = write_options(call, "UpdateOptions")
    write = target.write_context(call, options, target.subresource)

    def read() -> Object:
        return target.decode(call, options)

    sent = await aside(read) if write.big else read()
    if target.resource.namespaced:
        match_namespace(sent["metadata"], write.namespace)
    check_name(sent, call.info.name, write.namespace)
    await dedup_owner_references(sent, call)

    versions = Versions(target)

    async def transform(stored: Object | None) -> Object:
        def change() -> tuple[Object | None, Object]:
            old = None if stored is None else target.working(stored)
            return old, manage(target, old, copy(sent), options, write.now, versions)

        call.big = write.big
        old, new = await versions.settle(change, big=write.big)
        attributes = attributes_of(call, target, CREATE if old is None else UPDATE, options)
        attributes.object, attributes.old = new, old
        await admission.mutate(attributes)
        await dedup_owner_references(attributes.new(), call, admitted=True)
        return target.merge(stored, attributes.new())

    change = updating.Update(
        namespace=write.namespace,
        name=call.info.name,
        transform=transform,
        rules=target.rules,
        validate=update_validator(call, target, admission, options),
        validate_create=creation_validator(call, target, admission, options),
        create=target.registry.strategy.create_on_update and not target.subresource,
        uid=sent["metadata"].get("uid") or None,
    )
    entry, created = await updating.update(target.registry, change, write)
    return show_entry(call, target, entry, form, 201 if created else 200)
