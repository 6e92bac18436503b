"""port-forward: SPDY in a WebSocket is unwrapped for the kubelet."""

from __future__ import annotations

import asyncio

from tests.apiserver.streaming.kubelet import SpdyKubelet
from tiphys.apiserver.streaming.connect import port_forward
from tiphys.apiserver.streaming.location import Location
from tiphys.wire import websocket
from tiphys.wire.http import Handler, Headers, Request, Response
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.websocket import TunnelStream, WebSocket

PROTOCOL = "portforward.k8s.io"


def gateway(kubelet: Handler) -> InProcessTransport:
    transport = InProcessTransport(kubelet)

    async def handler(request: Request) -> Response:
        return await port_forward(request, transport, Location("/portForward/default/web"))

    return InProcessTransport(handler)


def test_tunnelled_spdy() -> None:
    async def echo(streams: dict[str, SpdyStream]) -> bytes:
        assert streams["data"].headers["port"] == "80"
        while data := await streams["data"].read():
            streams["data"].write(data.upper())
        streams["data"].close()
        return b""

    kubelet = SpdyKubelet(echo, 2, PROTOCOL)

    async def main() -> None:
        transport = gateway(kubelet)
        headers = websocket.request_headers(f"SPDY/3.1+{PROTOCOL}")
        async with asyncio.timeout(60):
            answer = await transport.send(Request("GET", "/", headers=headers))
            assert websocket.check_answer(headers, answer.status, Headers(answer.headers)) == f"SPDY/3.1+{PROTOCOL}"
            connection = SpdyConnection(TunnelStream(WebSocket(answer.upgraded(), server=False)), server=False)
            running = asyncio.create_task(connection.run())
            error = await connection.open({"streamType": "error", "port": "80", "requestID": "0"})
            data = await connection.open({"streamType": "data", "port": "80", "requestID": "0"})
            error.close()
            data.write(b"x" * 300_000)
            data.close()
            received = b""
            while piece := await data.read():
                received += piece
            assert received == b"X" * 300_000
            await running
        sent = kubelet.requests[0]
        assert (sent.method, sent.headers["upgrade"]) == ("POST", "SPDY/3.1")
        assert sent.headers["x-stream-protocol-version"] == PROTOCOL
        assert not any(name.startswith("sec-websocket") for name in sent.headers)
        await transport.close()

    asyncio.run(main())


def test_a_kubelet_that_refuses_is_heard_before_the_websocket_is_accepted() -> None:
    async def kubelet(request: Request) -> Response:
        return Response(404, {"Content-Type": "text/plain"}, b"no such pod")

    async def main() -> None:
        answer = await gateway(kubelet).send(
            Request("GET", "/", headers=websocket.request_headers(f"SPDY/3.1+{PROTOCOL}"))
        )
        assert (answer.status, await answer.read()) == (404, b"no such pod")

    asyncio.run(main())
