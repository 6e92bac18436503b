"""May the caller do this?

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

import logging
from functools import partial

from tiphys.api import errors
from tiphys.api.gotext import quote
from tiphys.apiserver.authz.authorizer import Access, Authorizer, access_of, refuse
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Headers, Response

log = logging.getLogger(__name__)


def authorize(authorizer: Authorizer) -> Filter:
    """The filter that lets allowed calls proceed. Raises 403; answers 500 if an authorizer failed."""

    async def filter(call: Call, proceed: Endpoint) -> Response:
        access = access_of(call.user, call.info)
        decision = await authorizer.authorize(access)
        if decision.error and not decision.allowed:
            call.annotate("authorization.k8s.io/reason", "internal error")
            log.error("%s %s cannot be authorized: %s", call.info.verb, call.info.path, decision.error)
            return _failed(call, decision.error)
        allowed = decision.allowed
        if call.trail is not None:
            call.annotate("authorization.k8s.io/decision", "allow" if allowed else "forbid")
            call.annotate("authorization.k8s.io/reason", decision.reason)
        if not allowed:
            raise refuse(access, decision)
        call.refusal = partial(_refusal, authorizer, access)
        return await proceed(call)

    return filter


def _failed(call: Call, error: str) -> Response:
    path = f"{call.request.path}?{call.request.query}" if call.request.query else call.request.path
    text = errors.sanitize(f"Internal Server Error: {quote(path)}: {error}\n")
    headers = Headers({"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"})
    return Response(500, headers, text.encode())


async def _refusal(authorizer: Authorizer, access: Access, verb: str) -> str | None:
    decision = await authorizer.authorize(access._replace(verb=verb))
    return None if decision.allowed else decision.reason
