"""No call lasts longer than the server's limit, except watches and connections."""

from __future__ import annotations

import asyncio

from tiphys.api import errors
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response


def limit_time(seconds: float) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        if call.is_long_running:
            return await proceed(call)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await proceed(call)
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.timeout(
                "request did not complete within requested timeout - context deadline exceeded"
            ) from None

    return filter
