"""``Transport`` by direct calls: components and API server in one event loop, for tests and simulation.

The handler runs in the caller's task, as a function would. Streamed bodies and upgrades run as tasks of the transport,
and end when their response is closed. Nothing here reads a clock or a socket, so it works on virtual time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from tiphys.wire.http import ByteStream, Handler, Headers, Peer, Request, Response, Stream, Upgrade, read_whole
from tiphys.wire.memory import MemorySink, stream_pair

log = logging.getLogger(__name__)

_HOST = "kubernetes.default.svc"


class InProcessTransport:
    """Calls ``handler`` as the user and groups of ``identity``; None: whoever the authenticators find."""

    def __init__(self, handler: Handler, identity: tuple[str, tuple[str, ...]] | None = None) -> None:
        self._handler = handler
        self._peer = Peer(address="127.0.0.1", secure=True, identity=identity)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def send(self, request: Request, timeout: float | None = None) -> InProcessResponse:
        """See ``http.Transport``."""
        if self._closed:
            raise ConnectionError("the transport is closed")
        headers = request.headers.copy()
        headers.setdefault("host", _HOST)
        call = Request(request.method, request.path, request.query, headers, request.body, self._peer)
        if timeout is None:
            response = await self._call(call)
        else:
            async with asyncio.timeout(timeout):
                response = await self._call(call)
        return self._receive(call, response)

    async def _call(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return Response(500, {"Content-Type": "text/plain; charset=utf-8"}, b"Internal Server Error\n")

    def _receive(self, request: Request, response: Response) -> InProcessResponse:
        headers = Headers({name.lower(): value for name, value in response.headers.items()})
        body = response.body
        if isinstance(body, bytes):
            headers.setdefault("content-length", str(len(body)))
            return InProcessResponse(response.status, headers, data=b"" if request.method == "HEAD" else body)
        if isinstance(body, Upgrade):
            near, far = stream_pair()
            task = self._spawn(self._run_upgrade(request, body, far))
            return InProcessResponse(101, headers, stream=near, task=task)
        if request.method == "HEAD":
            return InProcessResponse(response.status, headers)
        sink = MemorySink()
        task = self._spawn(self._run_stream(request, body, sink))
        return InProcessResponse(response.status, headers, sink=sink, task=task)

    async def _run_stream(self, request: Request, body: Stream, sink: MemorySink) -> None:
        error: ConnectionError | None = ConnectionResetError("connection closed before the response was complete")
        try:
            await body(sink)
            error = None
        except ConnectionError as cause:  # of a server that is proxied
            log.info("%s %s: its stream broke off: %s", request.method, request.path, cause)
        except Exception:
            log.exception("%s %s failed in its stream", request.method, request.path)
        finally:
            sink.finish(error)

    async def _run_upgrade(self, request: Request, upgrade: Upgrade, stream: ByteStream) -> None:
        try:
            await upgrade.run(stream)
        except ConnectionError as error:
            log.debug("%s %s: upgraded connection ended: %s", request.method, request.path, error)
        except Exception:
            log.exception("%s %s failed after its upgrade", request.method, request.path)
        finally:
            stream.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End every stream and upgrade that is still running."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class InProcessResponse:
    """A handler's response as its caller sees it."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        *,
        data: bytes = b"",
        sink: MemorySink | None = None,
        stream: ByteStream | None = None,
        task: asyncio.Task[None] | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self._data = data
        self._sink = sink
        self._stream = stream
        self._task = task

    async def read(self, limit: int | None = None) -> bytes:
        return await read_whole(self, limit)

    async def chunks(self) -> AsyncIterator[bytes]:
        if self._sink is not None:
            async for piece in self._sink.take():
                yield piece
        elif self._data:
            data, self._data = self._data, b""
            yield data

    def upgraded(self) -> ByteStream:
        if self._stream is None:
            raise RuntimeError(f"the response is not an upgrade, but {self.status}")
        return self._stream

    async def close(self) -> None:
        """Nothing more is read: the server's side sees that the other one is gone, and is cancelled."""
        if self._sink is not None:
            self._sink.abandon()
            if self._task is not None:
                self._task.cancel()
        if self._stream is not None:
            self._stream.close()
