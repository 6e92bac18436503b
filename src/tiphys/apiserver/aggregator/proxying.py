"""``Aggregator``: a request for what another server serves is carried on to it, watches and Upgrades too.

The headers of the front proxy name the caller, which that server believes because of this server's certificate;
what the client itself said in such headers does not get through.
Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import replace
from urllib.parse import quote as escape

from tiphys.apiserver.aggregator.backends import Backends, Unroutable
from tiphys.apiserver.aggregator.services import Remote, RemoteServices
from tiphys.apiserver.call import Call, Endpoint, User
from tiphys.apiserver.endpoints.notfound import TEXT
from tiphys.wire.http import Headers, Response

log = logging.getLogger(__name__)

_DISCOVERY_SECONDS = 5.0
_FIELD_NAME = "!#$&'*+-.^_`|~"
"""What may stand in the name of a field besides letters and digits; a percent sign is always escaped."""


class Aggregator:
    def __init__(self, services: RemoteServices, backends: Backends, *, redirects: bool) -> None:
        """``redirects``: whether a server behind may send clients elsewhere."""
        self._redirects = redirects
        self._services = services
        self._backends = backends

    def before(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` for what is served here, and the servers behind for the rest."""

        async def answer(call: Call) -> Response:
            remote = self._services.at(call.info.path)
            return await endpoint(call) if remote is None else await self._carry_on(call, remote)

        return answer

    async def _carry_on(self, call: Call, remote: Remote) -> Response:
        from tiphys.apiserver.streaming.location import Location
        from tiphys.apiserver.streaming.reverse import reverse_proxy  # 10 ms, and most clusters have no such server

        if not remote.available:
            return _text(503, "service unavailable")
        try:
            host, port = await self._backends.resolve(remote)
            transport = self._backends.transport(remote, host, port)
        except Unroutable as error:
            log.error("error resolving %s/%s: %s", remote.namespace, remote.service, error)
            return _text(503, "service unavailable")
        except (OSError, ssl.SSLError) as error:
            log.error("no connection to API service %s can be made: %s", remote.name, error)
            return _text(500, "the certificates for this API service cannot be used")
        request = replace(call.request, headers=with_user(call.request.headers, call.user))
        location = Location(request.path, request.query, host=f"{host}:{port}")
        timeout = None if call.is_long_running or not _is_discovery(call) else _DISCOVERY_SECONDS
        return await reverse_proxy(request, transport, location, timeout, redirects=self._redirects)


def with_user(headers: Headers, user: User) -> Headers:
    """A client's headers with who calls in place of what it said of itself."""
    kept = [(name, value) for name in headers if not name.startswith("x-remote-") for value in headers.each(name)]
    fields = [("x-remote-user", user.name), *(("x-remote-group", group) for group in user.groups)]
    if user.uid:
        fields.append(("x-remote-uid", user.uid))
    for key, values in user.extra:
        fields += [(f"x-remote-extra-{escape(key, safe=_FIELD_NAME).lower()}", value) for value in values]
    return Headers.of([*kept, *fields])


def _is_discovery(call: Call) -> bool:
    return not call.info.is_resource and len(call.info.path.strip("/").split("/")) == 3


def _text(status: int, text: str) -> Response:
    return Response(status, {"Content-Type": TEXT, "X-Content-Type-Options": "nosniff"}, text.encode() + b"\n")
