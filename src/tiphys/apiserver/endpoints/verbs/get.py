"""GET of one object: the bytes that the cache holds, once it shows every write that came before.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

from tiphys.apiserver.call import Call
from tiphys.apiserver.endpoints.negotiation import negotiate
from tiphys.apiserver.endpoints.respond import show_entry
from tiphys.apiserver.endpoints.target import Target
from tiphys.apiserver.storage.entry import Entry
from tiphys.apiserver.storage.listing import parse_revision
from tiphys.wire.http import Response


async def get(call: Call, target: Target) -> Response:
    form = negotiate(
        call, has_columns=target.has_columns, has_protobuf=target.has_protobuf, routed=target.resource.builtin
    )
    return show_entry(call, target, await read(call, target), form)


async def read(call: Call, target: Target) -> Entry:
    """The object as of now; with ``resourceVersion``, at least as new as that. Raises 404."""
    registry, info = target.registry, call.info
    namespace = info.namespace if target.resource.namespaced else ""
    version = call.parameter("resourceVersion")
    if not version:
        return await registry.get(namespace, info.name)
    await registry.store.cacher.ready()
    await registry.store.cacher.feed.reached(parse_revision(version))
    entry = await registry.store.cached(namespace, info.name)
    if entry is None:
        raise registry.not_found(info.name)
    return entry
