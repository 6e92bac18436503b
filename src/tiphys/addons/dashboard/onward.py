"""A request of the page, carried on to the API server as the user, and its answer back.

Only fields that the page itself may set go with it: no cookie, no impersonation, no name of a front proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from tiphys.addons.dashboard import guard
from tiphys.addons.dashboard.sessions import Identity, UserSession
from tiphys.wire.client import canonical
from tiphys.wire.http import ByteStream, ClientResponse, Headers, Request, Response, Sink, Stream, Upgrade
from tiphys.wire.upgrade import forward_upgrade, is_upgrade
from tiphys.wire.websocket import is_websocket, offered_protocols

PREFIX = "/k8s"
"""Before the paths of the API, in the dashboard's own."""
SECONDS = 60.0
"""For the head of an answer."""
_SERVED = ("/api/", "/apis/", "/openapi/", "/version")
_SENT = frozenset(("accept", "content-type", "accept-language", "if-none-match"))
_OF_UPGRADE = frozenset(("connection", "upgrade", "sec-websocket-key", "sec-websocket-version"))
_RETURNED = frozenset(("content-type", "etag", "warning", "audit-id", "retry-after"))


def is_served(path: str) -> bool:
    """Whether a path of the API server's may be asked for by the page."""
    plain = ".." not in path.split("/") and "//" not in path and "\\" not in path
    return plain and (path in ("/api", "/apis", "/version") or path.startswith(_SERVED))


def onward_headers(request: Request, identity: Identity) -> Headers:
    """The fields that go on: what the page may say, and who the user is."""
    names = _SENT | _OF_UPGRADE if is_upgrade(request) else _SENT
    headers = Headers({name: value for name, value in request.headers.items() if name in names})
    headers["user-agent"] = "tiphys-dashboard"
    if identity.token is not None:
        headers["authorization"] = f"Bearer {identity.token()}"
    if is_websocket(request):
        rest = [name for name in offered_protocols(request) if not name.startswith(guard.KEY_PROTOCOL)]
        headers["sec-websocket-protocol"] = ", ".join(rest)
    return headers


async def carry_on(request: Request, session: UserSession) -> Response:
    """The API server's answer to a request, without ``PREFIX``. Raises ``ConnectionError`` and ``TimeoutError``."""
    identity = session.identity
    path = request.path.removeprefix(PREFIX)
    onward = Request(request.method, path, request.query, onward_headers(request, identity), request.body)
    if is_upgrade(request):
        return _within(await forward_upgrade(onward, identity.transport, SECONDS), session)
    answer = await identity.transport.send(onward, SECONDS)
    headers = {canonical(name): value for name, value in answer.headers.items() if name in _RETURNED}
    return Response(answer.status, {**headers, **guard.data_headers()}, _body(answer, session))


def _body(answer: ClientResponse, session: UserSession) -> Stream:
    async def stream(sink: Sink) -> None:
        async def copy() -> None:
            async for piece in answer.chunks():
                sink.write(piece)
                await sink.drain()
                if sink.closed:
                    return

        try:
            await while_open(session, copy())
        finally:
            await answer.close()

    return stream


def _within(response: Response, session: UserSession) -> Response:
    """An Upgrade that lasts no longer than the session."""
    if not isinstance(response.body, Upgrade):
        return Response(response.status, {**response.headers, **guard.data_headers()}, response.body)
    run = response.body.run

    async def join(client: ByteStream) -> None:
        await while_open(session, run(client))

    return Response(response.status, response.headers, Upgrade(join))


async def while_open(session: UserSession, work: Awaitable[None]) -> None:
    """Do ``work`` until it is done or the session ends, and count it as a stream of the session."""
    task = asyncio.ensure_future(work)
    ended = asyncio.ensure_future(session.ended.wait())
    session.streams += 1
    try:
        await asyncio.wait((task, ended), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        session.streams -= 1
        for each in (task, ended):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(task, ended, return_exceptions=True)
