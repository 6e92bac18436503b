"""exec and attach for WebSocket clients (``v5.channel.k8s.io``), towards a kubelet that speaks SPDY.

The WebSocket's channels and the SPDY streams carry the same things under other names:

==========  =======  ==============================================================================
SPDY        channel  direction and meaning
==========  =======  ==============================================================================
``stdin``   0        to the container; the close signal ``255, 0`` ends it
``stdout``  1        from the container
``stderr``  2        from the container; not with a terminal
``error``   3        from the kubelet: a Status at the end, with the exit code
``resize``  4        to the container: the terminal's size, as JSON
==========  =======  ==============================================================================

Source: KEP-4006, and client-go's remotecommand for what the versions of the SPDY protocol mean.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.apiserver.streaming.location import Location
from tiphys.wire import websocket
from tiphys.wire.http import ByteStream, ClientResponse, Headers, Request, Response, Transport, Upgrade
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.upgrade import PROTOCOL_VERSION, beginning
from tiphys.wire.websocket import Channels, HandshakeError, WebSocket

log = logging.getLogger(__name__)

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_SPDY_PROTOCOLS = ("v5", "v4", "v3", "v2")
_MAX_STATUS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Which streams the client requested (PodExecOptions, PodAttachOptions)."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def wanted(self) -> list[tuple[str, int]]:
        """The streams to open besides ``error``, with their channels, in the order of client-go."""
        named = (
            ("stdin", STDIN, self.stdin),
            ("stdout", STDOUT, self.stdout),
            ("stderr", STDERR, self.stderr and not self.tty),
            ("resize", RESIZE, self.tty),
        )
        return [(name, channel) for name, channel, wanted in named if wanted]


class _CannotConnect(Exception):
    """The kubelet cannot be reached, or did not agree to stream; the text is for the client."""


async def translate(request: Request, transport: Transport, location: Location, options: StreamOptions) -> Response:
    """Accept the WebSocket, then speak SPDY with the kubelet; failures come back on the error channel."""
    try:
        headers = websocket.accept_headers(request, websocket.V5)
    except HandshakeError as error:
        raise errors.bad_request(str(error)) from error

    async def run(stream: ByteStream) -> None:
        socket = WebSocket(stream, server=True)
        channels = Channels(socket, websocket.V5)
        try:
            # An empty message shows the client that the connection stands.
            channels.send(STDOUT if options.stdout else STDERR if options.stderr else ERROR, b"")
            status = await _serve(channels, transport, location, options)
            if status is not None:
                channels.send(ERROR, orjson.dumps(status))
                await channels.drain()
        except ConnectionError as error:
            log.debug("the client of %s is gone: %s", location.path, error)
        finally:
            socket.close()

    return Response(101, headers, Upgrade(run))


async def _serve(
    channels: Channels, transport: Transport, location: Location, options: StreamOptions
) -> dict[str, Any] | None:
    """Carry the session; the Status to send to the client, or None if it has left."""
    try:
        answer = await _connect(transport, location)
    except _CannotConnect as error:
        return _internal_error(str(error))
    connection = SpdyConnection(answer.upgraded(), server=False, grants=False)
    session = _Session(connection, answer.headers.get(PROTOCOL_VERSION, ""), channels)
    reading = asyncio.create_task(connection.run())
    input_ = asyncio.create_task(session.carry_input())
    work = asyncio.create_task(session.run(options))
    try:
        # The client's leaving ends the session, the end of its stdin does not: ``carry_input`` knows the difference.
        await asyncio.wait((work, input_), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return None
        try:
            return work.result()
        except (ConnectionError, TimeoutError) as error:
            return _internal_error(str(error) or "timed out")
    finally:
        connection.close()
        tasks = (reading, input_, work)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(transport: Transport, location: Location) -> ClientResponse:
    headers = Headers({"connection": "Upgrade", "upgrade": "SPDY/3.1"})
    headers[PROTOCOL_VERSION] = "\n".join((*(f"{version}.{websocket.V1}" for version in _SPDY_PROTOCOLS), websocket.V1))
    try:
        answer = await transport.send(Request("POST", location.path, location.query, headers), timeout=30)
        if answer.status == 101 and answer.headers.get("upgrade", "").lower() == "spdy/3.1":
            return answer
        refusal = await beginning(answer, _MAX_STATUS)
    except (ConnectionError, TimeoutError) as error:
        raise _CannotConnect(f"error sending request: {error or 'timed out'}") from error
    raise _CannotConnect(f"unable to upgrade connection: {_message(refusal)}")


def _message(body: bytes) -> str:
    """What a refusal says: a Status' message, or the text itself."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and isinstance(status.get("message"), str) and status["message"].strip():
        return str(status["message"]).strip()
    return body.decode("utf-8", "replace").strip() or "empty server response"


class _Session:
    """The streams of one exec or attach."""

    def __init__(self, connection: SpdyConnection, protocol: str, channels: Channels) -> None:
        self._connection = connection
        self._tells_success = protocol.startswith(("v4.", "v5."))
        self._channels = channels
        self._streams: dict[int, SpdyStream] = {}
        self._opened = asyncio.Event()

    async def run(self, options: StreamOptions) -> dict[str, Any]:
        """Open the streams, carry the output to its end, and give the Status that the kubelet sent."""
        error = await self._connection.open({"streamType": "error"})
        for name, channel in options.wanted():
            self._streams[channel] = await self._connection.open({"streamType": name})
        self._opened.set()
        try:
            async with asyncio.TaskGroup() as group:
                for channel in (STDOUT, STDERR):
                    if channel in self._streams:
                        group.create_task(self._carry_output(channel))
                last_word = await _read_all(error)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        if not last_word and error.was_reset and self._tells_success:
            raise ConnectionResetError("the connection to the kubelet was lost")
        return _outcome(last_word)

    async def _carry_output(self, channel: int) -> None:
        while data := await self._streams[channel].read():
            self._channels.send(channel, data)
            await self._channels.drain()

    async def carry_input(self) -> None:
        """Carry the client's messages; returns when the client has left."""
        await self._opened.wait()
        try:
            while (message := await self._channels.receive()) is not None:
                stream = self._streams.get(message.channel)
                if stream is None or message.channel not in (STDIN, RESIZE):
                    continue
                if message.closed:
                    stream.close()
                elif message.channel == RESIZE:
                    _resize(stream, message.data)
                else:
                    stream.write(message.data)
                    await self._drain(stream)
        except HandshakeError as error:
            log.debug("the client broke the channel protocol: %s", error)

    async def _drain(self, stream: SpdyStream) -> None:
        try:
            await stream.drain()
        except ConnectionError:
            log.debug("stdin is closed; what the client sends is dropped")


def _resize(stream: SpdyStream, data: bytes) -> None:
    try:
        size = orjson.loads(data)
        stream.write(orjson.dumps({"Width": int(size["Width"]), "Height": int(size["Height"])}) + b"\n")
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        log.debug("a terminal size that cannot be read: %s", error)


async def _read_all(stream: SpdyStream) -> bytes:
    received = b""
    while data := await stream.read():
        received += data
        if len(received) > _MAX_STATUS:
            raise ConnectionError("the kubelet's status is too large")
    return received


def _outcome(message: bytes) -> dict[str, Any]:
    """The kubelet's last word (protocol v4 and v5), as the Status for the client."""
    if not message:
        return _status("Success")
    try:
        status = orjson.loads(message)
        kind = status.get("status")
    except (orjson.JSONDecodeError, AttributeError):
        return _internal_error(f"error executing remote command: {message.decode('utf-8', 'replace')}")  # v2, v3
    if kind == "Success":
        return _status("Success")
    if kind != "Failure":
        return _internal_error("error stream protocol error: unknown error")
    if status.get("reason") != "NonZeroExitCode":
        return _internal_error(str(status.get("message", "")))
    causes = (status.get("details") or {}).get("causes") or ()
    code = next((cause.get("message", "") for cause in causes if cause.get("reason") == "ExitCode"), None)
    if code is None:
        return _internal_error("error stream protocol error: no ExitCode cause given")
    return _status(
        "Failure",
        f"command terminated with non-zero exit code: command terminated with exit code {code}",
        "NonZeroExitCode",
        [{"reason": "ExitCode", "message": code}],
    )


def _status(
    status: str, message: str = "", reason: str = "", causes: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """A Status as it travels on the error channel: without kind and version."""
    answer: dict[str, Any] = {"metadata": {}, "status": status}
    if message:
        answer["message"] = message
    if reason:
        answer["reason"] = reason
    if causes:
        answer["details"] = {"causes": causes}
    return answer


def _internal_error(message: str) -> dict[str, Any]:
    status = _status("Failure", f"Internal error occurred: {message}", "InternalError", [{"message": message}])
    return {**status, "code": 500}
