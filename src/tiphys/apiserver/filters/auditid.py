"""Every answer carries the id under which the audit log knows the request.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response

_MAX_ID = 64


def identify(new_id: Callable[[], str]) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        call.audit_id = call.request.headers.get("audit-id", "")[:_MAX_ID] or new_id()
        response = await proceed(call)
        response.headers["Audit-Id"] = call.audit_id
        response.headers.update(call.headers)
        response.headers.setdefault("Cache-Control", "no-cache, private")
        return response

    return filter
