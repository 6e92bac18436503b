"""GET of a collection."""

from __future__ import annotations

import asyncio

from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import list_options
from tiphys.apiserver.endpoints.respond import entry_message, show_page
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.storage.listing import Page, Query, read_page
from tiphys.wire.http import Response

_SLICE = 100


async def list_(call: Call, target: Target) -> Response:
    form = negotiate(call, has_protobuf=target.has_protobuf)
    options = list_options(call, watch=False)
    selection = target.selection(call.info.namespace, options)
    query = Query(selection, options.resource_version, options.match, options.limit, options.continue_)
    page = await read_page(target.registry.store, query)
    if form.is_protobuf:
        await _encode_messages(target, page)
    return show_page(call, target, page, form)


async def _encode_messages(target: Target, page: Page) -> None:
    """Encode what no client has asked for yet, in slices of some 20 ms: a message takes ten times as long as a read."""
    for number, entry in enumerate(page.entries):
        entry_message(target, entry)
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
