"""DELETE of one object.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.apiserver.admission.attributes import DELETE
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import WriteOptions, delete_options
from tiphys.apiserver.endpoints.respond import show, show_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.writing import Validate, attributes_of
from tiphys.apiserver.registry import deleting
from tiphys.apiserver.registry.deleting import Deleted
from tiphys.wire.http import Response


async def delete(call: Call, target: Target, admission: AdmissionChain) -> Response:
    """DELETE of one object: its last state, or a ``Status`` with its uid. Raises ``StatusError``."""
    form = negotiate(
        call, has_columns=target.has_columns, has_protobuf=target.has_protobuf, routed=target.resource.builtin
    )
    options, dry_run = delete_options(call)
    if (text := target.registry.strategy.warns_of_orphans) and options.orphan is None and not options.propagation:
        call.warn(text)
    write_options = WriteOptions(dry_run=dry_run, delete=options)
    write = target.write_context(call, write_options)
    validate = delete_validator(call, target, admission, write_options)
    done = await deleting.delete(target.registry, write.namespace, call.info.name, options, write, validate)
    status = 202 if not done.immediately and options.orphan is False else 200
    if done.immediately and not target.registry.strategy.returns_deleted:
        return show(call, _success(target, done), form, status)
    return show_entry(call, target, done.entry, form, status)


def delete_validator(call: Call, target: Target, admission: AdmissionChain, options: WriteOptions) -> Validate:
    """Admission of a deletion; it is given the stored object. One of a collection names no object, as upstream."""

    async def validate(obj: Object) -> None:
        attributes = attributes_of(call, target, DELETE, options)
        attributes.name = call.info.name_in_path
        attributes.namespace = obj["metadata"].get("namespace", call.info.namespace)
        attributes.old = target.show(obj)
        await admission.mutate(attributes)
        await admission.validate(attributes)

    return validate


def _success(target: Target, done: Deleted) -> Object:
    obj = target.registry.object(done.entry) if done.entry.revision else {"metadata": {}}
    uid = obj["metadata"].get("uid", "")
    return errors.success(errors.details(done.entry.name, target.resource.group, target.resource.plural, uid=uid))
