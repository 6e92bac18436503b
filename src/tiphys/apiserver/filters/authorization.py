"""May the caller do this?

Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tiphys.apiserver.authz.authorizer import Access, Authorizer, access_of, refuse
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response


def authorize(authorizer: Authorizer) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        access = access_of(call.user, call.info)
        decision = await authorizer.authorize(access)
        call.annotate("authorization.k8s.io/decision", "allow" if decision.allowed else "forbid")
        call.annotate("authorization.k8s.io/reason", decision.reason)
        if not decision.allowed:
            raise refuse(access, decision)
        call.refusal = partial(_refusal, authorizer, access)
        return await proceed(call)

    return filter


async def _refusal(authorizer: Authorizer, access: Access, verb: str) -> str | None:
    decision = await authorizer.authorize(replace(access, verb=verb))
    return None if decision.allowed else decision.reason
