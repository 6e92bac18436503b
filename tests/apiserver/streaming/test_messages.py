"""Logs and watches by WebSocket."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.apiserver.apiworld import ADMIN, World, config_map, run
from tiphys.api.errors import StatusError
from tiphys.apiserver.streaming.messages import log_over_websocket
from tiphys.client import resources as R
from tiphys.wire import websocket
from tiphys.wire.http import Headers, Request, Response, Sink
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.websocket import WebSocket


async def opened(handler, path: str, *protocols: str, query: str = "") -> tuple[WebSocket, str]:
    headers = websocket.request_headers(*protocols)
    answer = await InProcessTransport(handler, ADMIN).send(Request("GET", path, query, headers))
    chosen = websocket.check_answer(headers, answer.status, Headers(answer.headers))
    return WebSocket(answer.upgraded(), server=False), chosen


async def log(sink: Sink) -> None:
    sink.write(b"one\n")
    sink.write(b"two\n")


@pytest.mark.parametrize(
    ("offered", "chosen", "messages"),
    [
        ((), "", [b"one\n", b"two\n"]),
        (("binary.k8s.io",), "binary.k8s.io", [b"one\n", b"two\n"]),
        (("other", "base64.binary.k8s.io"), "base64.binary.k8s.io", ["b25lCg==", "dHdvCg=="]),
    ],
)
def test_a_log_in_messages(offered: tuple[str, ...], chosen: str, messages: list[bytes | str]) -> None:
    async def handler(request: Request) -> Response:
        return log_over_websocket(request, Response(200, {}, log))

    async def main() -> None:
        async with asyncio.timeout(60):
            socket, protocol = await opened(handler, "/", *offered)
            assert protocol == chosen
            assert [await socket.receive() for _ in range(3)] == [*messages, None]

    asyncio.run(main())


def test_a_client_that_goes_ends_the_log() -> None:
    ended = asyncio.Event()

    async def endless(sink: Sink) -> None:
        await sink.wait_closed()
        assert sink.closed
        sink.write(b"to nobody")
        ended.set()

    async def handler(request: Request) -> Response:
        return log_over_websocket(request, Response(200, {}, endless))

    async def main() -> None:
        socket, _ = await opened(handler, "/")
        socket.close()
        async with asyncio.timeout(60):
            await ended.wait()

    asyncio.run(main())


def test_a_subprotocol_that_is_not_known_is_refused() -> None:
    request = Request("GET", "/", headers=websocket.request_headers("v4.channel.k8s.io"))
    with pytest.raises(StatusError, match=r"v4\.channel\.k8s\.io are not known; use binary\.k8s\.io"):
        log_over_websocket(request, Response(200, {}, b""))


def test_a_watch_in_messages() -> None:
    async def work(world: World) -> None:
        await world.namespace("a")
        path = "/api/v1/namespaces/a/configmaps"
        socket, _ = await opened(world.server.handler, path, query="watch=true")
        for name in ("x", "y"):
            await world.admin.create(R.CONFIG_MAPS, config_map(name), namespace="a")
        events = [json.loads(await socket.receive()) for _ in range(2)]
        assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "x"), ("ADDED", "y")]
        socket.close()

    run(work)
