"""Paths that cannot be read at all are refused before anybody asks who calls, in the words of Go's HTTP server.

Source: https://pkg.go.dev/net/http#ServeMux
"""

from __future__ import annotations

import re

from tiphys.api.gotext import quote
from tiphys.apiserver.call import Call, Endpoint
from tiphys.apiserver.endpoints.notfound import TEXT
from tiphys.wire.http import Response

_broken_escape = re.compile("%(?![0-9A-Fa-f]{2})").search


async def refuse_unreadable(call: Call, proceed: Endpoint) -> Response:
    if "%" in call.request.path and _broken_escape(call.request.path):
        return Response(400, {"Content-Type": TEXT}, b"400 Bad Request")
    if call.info.error:
        text = f"Internal Server Error: {quote(call.info.path)}: failed to create RequestInfo: {call.info.error}\n"
        return Response(500, {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff"}, text.encode())
    return await proceed(call)
