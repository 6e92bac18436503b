"""DELETE of a collection: every object that a list with the same parameters shows, one by one.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.admission.chain import AdmissionChain
from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.biglists import show_list_page
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import WriteOptions, delete_options, list_options
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.endpoints.verbs.delete import delete_validator
from tiphys.apiserver.registry import deleting
from tiphys.apiserver.storage.listing import Query, read_page
from tiphys.wire.http import Response


async def deletecollection(call: Call, target: Target, admission: AdmissionChain) -> Response:
    """Delete each listed object; returns the list. Objects that are deleted meanwhile are skipped."""
    form = negotiate(call, has_protobuf=target.has_protobuf, routed=target.resource.builtin)
    listed = list_options(call, watch=False)
    options, dry_run = delete_options(call)
    if (text := target.registry.strategy.warns_of_orphans) and options.orphan is None and not options.propagation:
        call.warn(text)
    write_options = WriteOptions(dry_run=dry_run, delete=options)
    validate = delete_validator(call, target, admission, write_options)
    selection = target.selection(call.info.namespace, listed)
    query = Query(selection, listed.resource_version, listed.match, listed.limit, listed.continue_)
    page = await read_page(target.registry.store, query)
    for entry in page.entries:
        write = target.write_context(call, write_options)
        write.namespace = entry.namespace
        try:
            await deleting.delete(target.registry, entry.namespace, entry.name, options, write, validate)
        except errors.StatusError as error:
            if error.code != 404:
                raise
    return await show_list_page(call, target, page, form)
