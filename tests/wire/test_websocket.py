"""WebSocket handshakes and messages, and Kubernetes' channels."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.wire import websocket
from tiphys.wire.http import Headers, Request
from tiphys.wire.memory import stream_pair
from tiphys.wire.websocket import Channels, HandshakeError, Message, TunnelStream, WebSocket


def test_handshake_of_the_rfc() -> None:
    headers = Headers(
        {
            "upgrade": "websocket",
            "connection": "keep-alive, Upgrade",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
            "sec-websocket-protocol": "v5.channel.k8s.io, v4.channel.k8s.io",
        }
    )
    request = Request("GET", "/", headers=headers)
    assert websocket.is_websocket(request)
    assert websocket.offered_protocols(request) == [websocket.V5, websocket.V4]
    answer = websocket.accept_headers(request, websocket.V5)
    assert answer["Sec-WebSocket-Accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert websocket.check_answer(headers, 101, Headers({k.lower(): v for k, v in answer.items()})) == websocket.V5


@pytest.mark.parametrize("change", [{"sec-websocket-key": "short"}, {"sec-websocket-version": "8"}])
def test_bad_handshakes(change: dict[str, str]) -> None:
    headers = websocket.request_headers(websocket.V4)
    headers.update(change)
    with pytest.raises(HandshakeError):
        websocket.accept_headers(Request("GET", "/", headers=headers))
    with pytest.raises(HandshakeError):
        websocket.check_answer(websocket.request_headers(), 200, Headers())


def test_messages_and_closing() -> None:
    async def main() -> None:
        near, far = stream_pair()
        client, server = WebSocket(near, server=False), WebSocket(far, server=True)
        client.send(b"bytes")
        client.send("text")
        client.ping()
        client.send(bytes(300_000))
        assert [await server.receive(), await server.receive()] == [b"bytes", "text"]
        assert await server.receive() == bytes(300_000)
        server.close(1000, "bye")
        assert await client.receive() is None
        assert client.close_code == 1000
        client.send(b"too late")

    asyncio.run(main())


def test_messages_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        near, far = stream_pair()
        WebSocket(near, server=False).send("password")
        assert await WebSocket(far, server=True).receive() == "password"

    with caplog.at_level("DEBUG"):
        asyncio.run(main())
    assert "password" not in caplog.text


def test_oversized_and_broken_messages_end_the_connection() -> None:
    async def main() -> None:
        near, far = stream_pair()
        server = WebSocket(far, server=True, max_size=1000)
        WebSocket(near, server=False).send(bytes(1001))
        assert await server.receive() is None
        near, far = stream_pair()
        near.write(b"\x81\x05hello")  # a client must mask
        assert await WebSocket(far, server=True).receive() is None

    asyncio.run(main())


@pytest.mark.parametrize("protocol", [websocket.V5, websocket.V4, websocket.V4_BASE64, websocket.V1_BASE64])
def test_channels(protocol: str) -> None:
    async def main() -> None:
        near, far = stream_pair()
        client = Channels(WebSocket(near, server=False), protocol)
        server = Channels(WebSocket(far, server=True), protocol)
        client.send(0, b"in\xff")
        server.send(2, b"")
        assert await server.receive() == Message(0, b"in\xff")
        assert await client.receive() == Message(2, b"")
        client.close_channel(0)
        client.send(4, b"{}")
        if protocol == websocket.V5:
            assert await server.receive() == Message(0, b"", closed=True)
        assert await server.receive() == Message(4, b"{}")

    asyncio.run(main())


def test_tunnel_is_a_byte_stream() -> None:
    async def main() -> None:
        near, far = stream_pair()
        client = TunnelStream(WebSocket(near, server=False))
        server = TunnelStream(WebSocket(far, server=True))
        client.write(b"abc")
        client.write(b"def")
        assert [await server.read(2), await server.read(2), await server.read()] == [b"ab", b"c", b"def"]
        client.close()
        assert await server.read() == b""

    asyncio.run(main())
