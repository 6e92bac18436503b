"""Watches and logs over WebSockets: a browser opens six HTTP/1.1 connections to a server, and a page watches more.

The page connects to ``/streams/PATH?QUERY`` and sends one message, ``{"accept": …}``. The answers are text messages:
first ``{"status": …}`` with the Status object of an error, and then the body piece by piece; closing ends both sides.
"""

from __future__ import annotations

import asyncio
import codecs

import orjson

from tiphys.addons.dashboard.onward import SECONDS, onward_headers, while_open
from tiphys.addons.dashboard.sessions import UserSession
from tiphys.client.errors import from_answer
from tiphys.wire.http import ByteStream, ClientResponse, Headers, Request, Response, Upgrade
from tiphys.wire.websocket import WebSocket, accept_headers

PREFIX = "/streams"
PROTOCOL = "tiphys.stream"
_MOST_ERROR = 1 << 20
_MOST_MESSAGE = 4096


def stream(request: Request, session: UserSession) -> Response:
    """The answer to a page that opens a stream. Raises ``HandshakeError``."""
    headers = accept_headers(request, PROTOCOL)
    path = request.path.removeprefix(PREFIX)

    async def run(connection: ByteStream) -> None:
        socket = WebSocket(connection, server=True, max_size=_MOST_MESSAGE)
        try:
            await while_open(session, _serve(socket, path, request.query, session))
        finally:
            socket.close()

    return Response(101, headers, Upgrade(run))


async def _serve(socket: WebSocket, path: str, query: str, session: UserSession) -> None:
    first = await socket.receive()
    if first is None:
        return
    sent = Headers(onward_headers(Request("GET", path), session.identity))
    sent["accept"] = _accept(first)
    try:
        answer = await session.identity.transport.send(Request("GET", path, query, sent), SECONDS)
    except (ConnectionError, TimeoutError) as error:
        _fail(socket, 502, f"the API server cannot be reached: {error or 'timed out'}")
        return
    try:
        if answer.status >= 400:
            refused = from_answer(answer.status, await answer.read(_MOST_ERROR))
            socket.send(orjson.dumps({"status": refused.code, "error": refused.status}).decode())
            return
        socket.send(orjson.dumps({"status": answer.status}).decode())
        await _until_either_ends(socket, answer)
    except ConnectionError:
        return  # the page sees the end, and goes on from where it was
    finally:
        await answer.close()


async def _until_either_ends(socket: WebSocket, answer: ClientResponse) -> None:
    async def copy() -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for piece in answer.chunks():
            if text := decoder.decode(piece):
                socket.send(text)
                await socket.drain()

    async def left() -> None:
        while await socket.receive() is not None:
            pass

    tasks = [asyncio.ensure_future(copy()), asyncio.ensure_future(left())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _accept(message: bytes | str) -> str:
    try:
        wanted = orjson.loads(message)
    except orjson.JSONDecodeError:
        return "application/json"
    accept = wanted.get("accept") if isinstance(wanted, dict) else None
    return accept if isinstance(accept, str) and accept.isprintable() else "application/json"


def _fail(socket: WebSocket, code: int, message: str) -> None:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}
    socket.send(orjson.dumps({"status": code, "error": status}).decode())
