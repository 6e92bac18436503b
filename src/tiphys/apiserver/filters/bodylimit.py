"""No body is larger than the server's limit. Source: upstream's limit of 3 MiB on request bodies."""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response


def limit_body(size: int) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        if len(call.request.body) > size:
            raise too_large(size)
        return await proceed(call)

    return filter


def too_large(size: int) -> errors.StatusError:
    return errors.request_entity_too_large(f"limit is {size}")
