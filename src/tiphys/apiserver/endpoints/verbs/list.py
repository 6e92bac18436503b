"""GET of a collection.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.biglists import show_list_page
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.options import list_options
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.storage.listing import Query, read_page
from tiphys.wire.http import Response


async def list_(call: Call, target: Target) -> Response:
    form = negotiate(call, has_protobuf=target.has_protobuf, routed=target.resource.builtin)
    options = list_options(call, watch=False)
    selection = target.selection(call.info.namespace, options)
    query = Query(selection, options.resource_version, options.match, options.limit, options.continue_)
    page = await read_page(target.registry.store, query)
    return await show_list_page(call, target, page, form)
