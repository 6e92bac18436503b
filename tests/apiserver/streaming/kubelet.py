"""A kubelet that streams by SPDY, as far as exec and port-forward need: it runs functions in place of commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tiphys.wire.http import ByteStream, Request, Response, Upgrade
from tiphys.wire.spdy.connection import SpdyConnection, SpdyStream
from tiphys.wire.upgrade import PROTOCOL_VERSION

Command = Callable[[dict[str, SpdyStream]], Awaitable[bytes]]
"""Gets the streams by their type; gives what goes to the error stream."""


class SpdyKubelet:
    """A ``Handler``. ``requests`` holds what came, for assertions."""

    def __init__(self, command: Command, streams: int, protocol: str = "v4.channel.k8s.io") -> None:
        self._command = command
        self._count = streams
        self._protocol = protocol
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", PROTOCOL_VERSION: self._protocol}
        return Response(101, headers, Upgrade(self._serve))

    async def _serve(self, stream: ByteStream) -> None:
        opened: asyncio.Queue[SpdyStream] = asyncio.Queue()
        connection = SpdyConnection(stream, server=True, accept=opened.put_nowait)
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.run())
            streams = [await opened.get() for _ in range(self._count)]
            by_type = {found.headers["streamtype"]: found for found in streams}
            last_word = await self._command(by_type)
            for name in ("stdout", "stderr"):
                if name in by_type:
                    by_type[name].close()
            by_type["error"].write(last_word)
            by_type["error"].close()
            connection.close()
