"""What every aggregated API of the add-ons shares: who calls, whether they may, and how a refusal is answered.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

from tiphys.api import errors
from tiphys.api.object import Object
from tiphys.client.delegated import DelegatedAccess, Trust, User, read_trust
from tiphys.client.errors import ApiError
from tiphys.client.rest import Client
from tiphys.runtime.clock import Clock
from tiphys.runtime.component import CannotStart, Ready
from tiphys.runtime.flags import FlagParser
from tiphys.wire.http import Handler, Request, Response
from tiphys.wire.server import serve
from tiphys.wire.tls.contexts import server_context

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1

Attributes = Mapping[str, str]
"""What a request is about, in the words of SubjectAccessReview: of a resource, or ``path`` and ``verb`` alone."""


async def admit(access: DelegatedAccess, request: Request, attributes: Attributes) -> None:
    """Lets callers through whom the API server knows and allows what they ask.

    Raises ``StatusError`` 401, 403 and 405: aggregated APIs of the add-ons are read only.
    """
    user = await access.caller(request)
    if user is None:
        raise errors.unauthorized()
    if request.method != "GET":
        raise errors.method_not_allowed()
    if not await access.allows(user, attributes):
        raise _refused(user, attributes)


def _refused(user: User, attributes: Attributes) -> errors.StatusError:
    words = {key: value for key, value in attributes.items() if key not in ("verb", "version")}
    return errors.not_authorized(user.name, attributes["verb"], **words)


async def answered(work: Callable[[], Awaitable[Response]]) -> Response:
    """A request's answer; a failure's is its Status."""
    try:
        return await work()
    except errors.StatusError as error:
        return json_response(error.code, error.status)
    except (ApiError, ConnectionError) as error:
        return json_response(500, errors.internal(error).status)


def json_response(status: int, obj: Object) -> Response:
    return Response(status, {"Content-Type": "application/json"}, orjson.dumps(obj, option=orjson.OPT_APPEND_NEWLINE))


async def wait_for_trust(client: Client, clock: Clock) -> Trust:
    """Whom to believe, as the API server says; waits until it does."""
    while True:
        try:
            return await read_trust(client)
        except (ApiError, ConnectionError) as error:
            log.warning("cannot read whom to believe yet: %s", error)
            await clock.sleep(_RETRY_SECONDS)


class ServingPlace(NamedTuple):
    """Where an aggregated API is served, and with which certificate."""

    cert: Path
    key: Path
    address: str
    port: int


async def serve_until_cancelled(
    serving: ServingPlace, sock: socket.socket, trust: Trust, handler: Handler, ready: Ready
) -> None:
    """Serve on a port that is reserved already; ``ready`` is called once the API answers."""
    tls = server_context(serving.cert, serving.key, trust.authorities or None)
    server = await serve(handler, "", 0, tls=tls, sock=sock)
    try:
        ready()
        await asyncio.Event().wait()
    finally:
        await server.close(grace=0.5)


def add_serving_flags(parser: FlagParser, port: int) -> None:
    add = parser.add_argument
    add("--bind-address", default="0.0.0.0", help="where to listen")
    add("--secure-port", type=int, default=port, help="the port")
    add("--tls-cert-file", type=Path, help="the server's certificate, with its chain")
    add("--tls-private-key-file", type=Path, help="its key")
    add("--cert-dir", type=Path, default=Path("apiserver.local.config/certificates"), help="where else they are made")


def serving_of(flags: argparse.Namespace) -> ServingPlace:
    """What those flags say, with a certificate that the server signs itself if they name none.

    Raises ``CannotStart``.
    """
    cert, key = flags.tls_cert_file, flags.tls_private_key_file
    if (cert is None) != (key is None):
        raise CannotStart("--tls-cert-file and --tls-private-key-file belong together; give both or none")
    if cert is None:
        from tiphys.wire.tls.selfsigned import ensure_certificate

        try:
            cert, key = ensure_certificate(flags.cert_dir, (socket.gethostname(), "localhost", "127.0.0.1"))
        except (OSError, ValueError) as error:
            raise CannotStart(f"--cert-dir: {error}") from error
    return ServingPlace(cert, key, flags.bind_address, flags.secure_port)
