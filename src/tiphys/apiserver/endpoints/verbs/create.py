"""POST to a collection.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.api.meta.copying import copy
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import CREATE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.aside import aside
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import write_options
from tiphys.apiserver.endpoints.respond import show_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.versions import Versions
from tiphys.apiserver.endpoints.writing import attributes_of, dedup_owner_references, manage, validator
from tiphys.apiserver.registry import creating
from tiphys.wire.http import Response


async def create(call: Call, target: Target, admission: AdmissionChain) -> Response:
    """Decode → default → managed fields → mutating admission → strategy, validation → validating admission → store."""
    form = negotiate(call, has_protobuf=target.has_protobuf, routed=target.resource.builtin)
    options = write_options(call, "CreateOptions")
    write = target.write_context(call, options)

    def read() -> Object:
        obj = target.decode(call, options)
        _own_metadata(obj, target, write.namespace)
        return obj

    sent = await aside(read) if write.big else read()
    await dedup_owner_references(sent, call)
    versions = Versions(target)

    def managed() -> Object:
        own = sent if target.conversions is None else copy(sent)
        return manage(target, None, own, options, write.now, versions)

    obj, call.big = await versions.settle(managed, big=write.big), write.big
    attributes = attributes_of(call, target, CREATE, options)
    attributes.name, attributes.object = obj["metadata"].get("name", ""), obj
    if target.is_namespaces:
        attributes.namespace = attributes.name
    await admission.mutate(attributes)
    await dedup_owner_references(attributes.new(), call, admitted=True)
    stored = target.merge(None, attributes.new())
    entry = await creating.create(target.registry, stored, write, validator(call, target, admission, options))
    return show_entry(call, target, entry, form, 201)


def _own_metadata(obj: Object, target: Target, namespace: str) -> None:
    """Take out of the metadata what only the server may set, and put the namespace of the path in."""
    meta = obj["metadata"]
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(name, None)
    if target.resource.namespaced:
        creating.match_namespace(meta, namespace)
    else:
        meta.pop("namespace", None)
