"""May the caller do this?"""

from __future__ import annotations

from tiphys.api import errors
from tiphys.apiserver.authz.authorizer import Access, Authorizer, Decision, access_of
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.wire.http import Response


def authorize(authorizer: Authorizer) -> Filter:
    async def filter(call: Call, proceed: Endpoint) -> Response:
        access = access_of(call.user, call.info)
        decision = await authorizer.authorize(access)
        if not decision.allowed:
            raise refuse(access, decision)
        return await proceed(call)

    return filter


def refuse(access: Access, decision: Decision) -> errors.StatusError:
    return errors.not_authorized(
        access.user.name,
        access.verb,
        path=access.path,
        group=access.group,
        resource=access.resource,
        subresource=access.subresource,
        namespace=access.namespace,
        name=access.name,
        reason=decision.reason,
    )
