"""The way of every request, shown once and in order.

Source: https://kubernetes.io/docs/concepts/security/controlling-access/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tiphys.apiserver.aside import LARGE, uncollected
from tiphys.apiserver.authn.authenticator import Authenticator
from tiphys.apiserver.authn.requestheader import clearing
from tiphys.apiserver.authz.authorizer import Authorizer
from tiphys.apiserver.call import Call, Endpoint, Filter
from tiphys.apiserver.config import FrontProxy
from tiphys.apiserver.filters.auditid import identify
from tiphys.apiserver.filters.authentication import authenticate
from tiphys.apiserver.filters.authorization import authorize
from tiphys.apiserver.filters.bodylimit import limit_body
from tiphys.apiserver.filters.failures import answer_failures
from tiphys.apiserver.filters.impersonation import impersonate
from tiphys.apiserver.filters.measure import measure
from tiphys.apiserver.filters.timelimit import limit_time
from tiphys.apiserver.filters.unreadable import refuse_unreadable
from tiphys.apiserver.metrics import RequestMetrics
from tiphys.apiserver.registry.registry import Ids
from tiphys.apiserver.requestinfo import Parameters, request_info
from tiphys.runtime.clock import Clock
from tiphys.wire.http import Handler, Request, Response

_NO_PARAMETERS: Parameters = {}


@dataclass(slots=True)
class Parts:
    """What the filters work with."""

    clock: Clock
    ids: Ids
    metrics: RequestMetrics
    admit: Filter
    """Lets requests run, wait, or turns them away."""
    authenticator: Authenticator
    authorizer: Authorizer
    anonymous: Callable[[str], bool]
    """Whether callers without a credential may reach a path."""
    request_timeout: float
    max_body: int
    front_proxy: FrontProxy | None = None
    """Who may say who the caller is."""
    browsers: Sequence[Filter] = ()
    unauthenticated: Sequence[Filter] = ()
    """See each request before its caller is known."""
    audit: Sequence[Filter] = ()


def build_chain(parts: Parts, endpoint: Endpoint) -> Handler:
    """A handler that takes each request through all filters, the first one first, to ``endpoint``."""
    return with_request_info(
        through(
            [
                measure(parts.metrics, parts.clock),
                identify(parts.ids.uid),
                *parts.browsers,
                refuse_unreadable,
                answer_failures,
                limit_body(parts.max_body),
                limit_time(parts.request_timeout),
                *parts.unauthenticated,
                authenticate(parts.authenticator, parts.anonymous, clearing(parts.front_proxy)),
                *parts.audit,
                impersonate(parts.authorizer),
                parts.admit,
                authorize(parts.authorizer),
            ],
            endpoint,
        )
    )


def with_request_info(endpoint: Endpoint) -> Handler:
    async def handle(request: Request) -> Response:
        parameters = request.parameters() if request.query else _NO_PARAMETERS
        call = Call(request, parameters, request_info(request, parameters))
        if len(request.body) < LARGE:
            return await endpoint(call)
        with uncollected():
            return await endpoint(call)

    return handle


def through(filters: Sequence[Filter], endpoint: Endpoint) -> Endpoint:
    """The endpoint behind its filters."""
    for filter in reversed(filters):
        endpoint = _behind(filter, endpoint)
    return endpoint


def _behind(filter: Filter, endpoint: Endpoint) -> Endpoint:
    def proceed(call: Call) -> Awaitable[Response]:
        return filter(call, endpoint)

    return proceed
