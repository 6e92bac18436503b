"""DELETE of a collection: every object that a list with the same parameters shows, a few at a time.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio

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


async def deletecollection(call: Call, target: Target, admission: AdmissionChain, *, workers: int = 1) -> Response:
    """Delete each listed object, ``workers`` at a time; returns the list. One that is deleted meanwhile is skipped.

    A worker stops at the first object that cannot be deleted; once all have, the first one's error is the answer.
    """
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
    entries = iter(page.entries)

    async def work() -> None:
        for entry in entries:
            write = target.write_context(call, write_options)
            write.namespace = entry.namespace
            try:
                await deleting.delete(target.registry, entry.namespace, entry.name, options, write, validate)
            except errors.StatusError as error:
                if error.code != 404:
                    raise

    if workers == 1:
        await work()
    else:
        for ended in await asyncio.gather(*(work() for _ in range(workers)), return_exceptions=True):
            if ended is not None:
                raise ended
    return await show_list_page(call, target, page, form)
