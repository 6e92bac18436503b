"""Headers for browsers: which origins' pages may call, and that they must use TLS. Off by default.

Sources: the flags ``--cors-allowed-origins`` and ``--strict-transport-security-directives``; RFC 6797; the Fetch
standard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response

_CORS = {
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS, PUT, DELETE, PATCH",
    "Access-Control-Allow-Headers": "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, "
    "X-Requested-With, If-Modified-Since",
    "Access-Control-Expose-Headers": "Date",
    "Access-Control-Allow-Credentials": "true",
}


def allow_origins(patterns: Sequence[str]) -> Filter:
    """Let pages of other origins call; their origin must contain a match of one of the patterns."""
    allowed = [re.compile(pattern) for pattern in patterns]

    async def filter(call: Call, proceed: Endpoint) -> Response:
        origin = call.request.headers.get("origin", "")
        if not origin or not any(pattern.search(origin) for pattern in allowed):
            return await proceed(call)
        preflight = call.request.method == "OPTIONS"
        response = Response(204) if preflight else await proceed(call)
        response.headers |= {"Access-Control-Allow-Origin": origin, **_CORS}
        return response

    return filter


def require_tls(directives: Sequence[str]) -> Filter:
    text = "; ".join(directives)

    async def filter(call: Call, proceed: Endpoint) -> Response:
        response = await proceed(call)
        response.headers.setdefault("Strict-Transport-Security", text)
        return response

    return filter
