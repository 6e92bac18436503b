"""exec and attach through the API server, as kubectl (WebSocket v5), older kubectl (SPDY) and others speak them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest

from tests.apiserver.streaming.kubelet import SpdyKubelet
from tiphys.api.errors import StatusError
from tiphys.apiserver.streaming.connect import exec_or_attach
from tiphys.apiserver.streaming.location import Location
from tiphys.apiserver.streaming.translate import StreamOptions
from tiphys.runtime.clock import VirtualTimeLoop
from tiphys.wire import websocket
from tiphys.wire.http import ByteStream, Handler, Headers, Peer, Request, Response, Upgrade
from tiphys.wire.inprocess import InProcessTransport
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.websocket import Channels, Message, WebSocket

TARGET = Location("/exec/default/web/main", "command=sh&input=1", host="10.0.0.1:10250")
SUCCESS = b'{"metadata":{},"status":"Success"}'
EXIT_3 = orjson.dumps(
    {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": "command terminated with non-zero exit code: exit status 3",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
)

Streams = dict[str, SpdyStream]
Use = Callable[[Channels, WebSocket], Awaitable[None]]


def gateway(kubelet: Handler, options: StreamOptions, features: tuple[str, ...] = ()) -> Handler:
    """An API server that can only exec."""
    transport = InProcessTransport(kubelet)

    async def handler(request: Request) -> Response:
        return await exec_or_attach(request, transport, TARGET, options, features)

    return handler


def run(handler: Handler, headers: Headers, use: Callable[[Response | None, ByteStream], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(3600):
            transport = InProcessTransport(handler)
            answer = await transport.send(Request("GET", "/exec", headers=headers))
            assert answer.status == 101, await answer.read()
            await use(None, answer.upgraded())
            await transport.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


def exec_v5(command: Callable[[Streams], Awaitable[bytes]], options: StreamOptions, use: Use) -> SpdyKubelet:
    """A v5 WebSocket client against the translating API server; the channels are for the test to use."""
    kubelet = SpdyKubelet(command, 1 + len(options.wanted()))

    async def as_client(_: object, stream: ByteStream) -> None:
        socket = WebSocket(stream, server=False)
        await use(Channels(socket, websocket.V5), socket)

    run(gateway(kubelet, options), websocket.request_headers(websocket.V5), as_client)
    return kubelet


async def collect(channels: Channels) -> dict[int, bytes]:
    """All that comes until the connection closes, by channel."""
    found: dict[int, bytes] = {}
    while (message := await channels.receive()) is not None:
        found[message.channel] = found.get(message.channel, b"") + message.data
    return found


def test_output_and_success() -> None:
    async def command(streams: Streams) -> bytes:
        streams["stdout"].write(b"hello\n" * 100_000)
        await streams["stdout"].drain()
        streams["stderr"].write(b"oops\n")
        return SUCCESS

    async def use(channels: Channels, socket: WebSocket) -> None:
        assert await channels.receive() == Message(1, b"")  # the connection stands
        found = await collect(channels)
        assert found == {1: b"hello\n" * 100_000, 2: b"oops\n", 3: SUCCESS}
        assert socket.close_code == 1000

    kubelet = exec_v5(command, StreamOptions(stdout=True, stderr=True), use)
    request = kubelet.requests[0]
    assert (request.method, request.path, request.query) == ("POST", TARGET.path, TARGET.query)
    assert request.headers["x-stream-protocol-version"].split("\n")[0] == "v5.channel.k8s.io"


def test_exit_code() -> None:
    async def command(streams: Streams) -> bytes:
        return EXIT_3

    async def use(channels: Channels, socket: WebSocket) -> None:
        status = orjson.loads((await collect(channels))[3])
        assert status == {
            "metadata": {},
            "status": "Failure",
            "message": "command terminated with non-zero exit code: command terminated with exit code 3",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        }

    exec_v5(command, StreamOptions(stdout=True), use)


def test_stdin_is_closed_by_the_close_signal() -> None:
    """``echo abc | kubectl exec -i pod -- cat``: what v4 could not do."""

    async def command(streams: Streams) -> bytes:
        while data := await streams["stdin"].read():
            streams["stdout"].write(data)
            await streams["stdout"].drain()
        return SUCCESS

    async def use(channels: Channels, socket: WebSocket) -> None:
        for _ in range(50):
            channels.send(0, b"x" * 20_000)
        channels.close_channel(0)
        found = await collect(channels)
        assert (len(found[1]), found[3]) == (1_000_000, SUCCESS)

    exec_v5(command, StreamOptions(stdin=True, stdout=True), use)


def test_terminal_sizes() -> None:
    async def command(streams: Streams) -> bytes:
        assert "stderr" not in streams
        size = await streams["resize"].read()
        streams["stdout"].write(size)
        return SUCCESS

    async def use(channels: Channels, socket: WebSocket) -> None:
        channels.send(4, b"nonsense")
        channels.send(4, b'{"Width":80,"Height":24}')
        assert (await collect(channels))[1] == b'{"Width":80,"Height":24}\n'

    exec_v5(command, StreamOptions(stdin=True, stdout=True, stderr=True, tty=True), use)


def test_a_client_that_leaves_ends_the_command() -> None:
    ended = asyncio.Event()

    async def command(streams: Streams) -> bytes:
        assert await streams["stdin"].read() == b""
        assert streams["stdin"].was_reset
        ended.set()
        return b""

    async def use(channels: Channels, socket: WebSocket) -> None:
        assert await channels.receive() == Message(1, b"")
        socket.close()
        await ended.wait()

    exec_v5(command, StreamOptions(stdin=True, stdout=True), use)


def test_a_kubelet_that_dies_is_no_success() -> None:
    async def kubelet(request: Request) -> Response:
        async def serve(stream: ByteStream) -> None:
            opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
            connection = SpdyConnection(stream, server=True, accept=opened.put_nowait)
            running = asyncio.create_task(connection.run())
            for _ in range(2):
                await opened.get()
            stream.close()
            await running

        headers = {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}
        return Response(101, headers, Upgrade(serve))

    async def use(_: object, stream: ByteStream) -> None:
        found = await collect(Channels(WebSocket(stream, server=False), websocket.V5))
        status = orjson.loads(found[3])
        assert (status["reason"], status["code"]) == ("InternalError", 500)

    run(gateway(kubelet, StreamOptions(stdout=True)), websocket.request_headers(websocket.V5), use)


def test_what_the_kubelet_refuses_comes_by_the_error_channel() -> None:
    async def kubelet(request: Request) -> Response:
        return Response(404, {}, b"pod does not exist\n")

    async def use(_: object, stream: ByteStream) -> None:
        found = await collect(Channels(WebSocket(stream, server=False), websocket.V5))
        message = "unable to upgrade connection: pod does not exist"
        assert orjson.loads(found[3]) == {
            "metadata": {},
            "status": "Failure",
            "message": f"Internal error occurred: {message}",
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        }

    run(gateway(kubelet, StreamOptions(stdout=True)), websocket.request_headers(websocket.V5), use)


def test_spdy_clients_are_joined_byte_for_byte() -> None:
    async def command(streams: Streams) -> bytes:
        streams["stdout"].write(await streams["stdin"].read())
        return SUCCESS

    kubelet = SpdyKubelet(command, 3)

    async def use(_: object, stream: ByteStream) -> None:
        connection = SpdyConnection(stream, server=False)
        running = asyncio.create_task(connection.run())
        error = await connection.open({"streamType": "error"})
        stdin = await connection.open({"streamType": "stdin"})
        stdout = await connection.open({"streamType": "stdout"})
        stdin.write(b"ping")
        assert await stdout.read() == b"ping"
        assert await error.read() == SUCCESS
        await running

    headers = Headers({"connection": "Upgrade", "upgrade": "SPDY/3.1", "authorization": "Bearer secret"})
    headers["x-stream-protocol-version"] = "v4.channel.k8s.io, v3.channel.k8s.io"
    run(gateway(kubelet, StreamOptions()), headers, use)
    sent = kubelet.requests[0].headers
    assert "authorization" not in sent
    assert sent["x-stream-protocol-version"] == "v4.channel.k8s.io\nv3.channel.k8s.io"
    assert sent["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(("protocol", "features"), [(websocket.V4, ()), (websocket.V5, ("ExtendWebSocketsToKubelet",))])
def test_websockets_that_the_kubelet_speaks_are_joined(protocol: str, features: tuple[str, ...]) -> None:
    async def kubelet(request: Request) -> Response:
        async def serve(stream: ByteStream) -> None:
            socket = WebSocket(stream, server=True)
            Channels(socket, protocol).send(1, b"raw")
            socket.close()

        return Response(101, websocket.accept_headers(request, protocol), Upgrade(serve))

    async def use(_: object, stream: ByteStream) -> None:
        assert await collect(Channels(WebSocket(stream, server=False), protocol)) == {1: b"raw"}

    run(gateway(kubelet, StreamOptions(stdout=True), features), websocket.request_headers(protocol), use)


def test_refusals() -> None:
    async def unreachable(request: Request) -> Response:
        raise AssertionError("not to be called")

    class Dead(InProcessTransport):
        async def send(self, request: Request, timeout: float | None = None) -> object:  # type: ignore[override]
            raise ConnectionRefusedError("connect to 10.0.0.1:10250: Connection refused")

    async def main() -> None:
        transport = Dead(unreachable)
        upgrade = Headers({"connection": "upgrade", "upgrade": "SPDY/3.1"})
        with pytest.raises(StatusError, match="Upgrade request required") as found:
            await exec_or_attach(Request("POST", "/"), transport, TARGET, StreamOptions())
        assert (found.value.code, found.value.reason) == (400, "BadRequest")
        with pytest.raises(StatusError, match=r"error dialing backend: connect to 10\.0\.0\.1:10250") as found:
            await exec_or_attach(Request("POST", "/", headers=upgrade), transport, TARGET, StreamOptions())
        assert found.value.code == 500

    asyncio.run(main())


def test_the_target_s_refusal_is_handed_on() -> None:
    async def kubelet(request: Request) -> Response:
        return Response(403, {"Content-Type": "text/plain"}, b"Forbidden (user=x)")

    async def main() -> None:
        request = Request("POST", "/", headers=Headers({"connection": "upgrade", "upgrade": "SPDY/3.1"}), peer=Peer())
        answer = await exec_or_attach(request, InProcessTransport(kubelet), TARGET, StreamOptions())
        assert answer.status == 403
        assert answer.headers["Content-Type"] == "text/plain"

    asyncio.run(main())
