"""The API server as a process runs it: the store opened, the server started, then its port served.

``tiphys kube-apiserver`` and ``tiphys up`` both run it so; they differ in the store, in the files, and in what they
serve beside.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from tiphys.apiserver.config import Config
from tiphys.apiserver.dialer import SocketDialer
from tiphys.apiserver.server import APIServer
from tiphys.apiserver.serving import Serving
from tiphys.runtime.clock import Clock
from tiphys.runtime.tasks import Runner
from tiphys.store.backend import Backend
from tiphys.wire.http import Handler
from tiphys.wire.server import serve

Store = TypeVar("Store", bound=Backend)
Beside = Callable[[APIServer, Store], contextlib.AbstractAsyncContextManager[None]]
"""What surrounds the serving of a server that has started: entered before its port answers, left after."""


@contextlib.asynccontextmanager
async def served(
    config: Config,
    serving: Serving,
    *,
    open_store: Callable[[Clock], Awaitable[Store]],
    clock: Clock,
    dialer: SocketDialer | None = None,
    beside: Beside[Store] | None = None,
    listening: Callable[[], socket.socket] | None = None,
) -> AsyncIterator[Store]:
    """Serve the API while the context lasts; it begins when the port answers, and yields the store.

    ``listening`` makes the socket, in place of the address: when requests can be answered, and not before.
    Raises ``StoreError``, ``OSError`` and ``ValueError`` for what it cannot start with.
    """
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(clock)
        stack.push_async_callback(store.close)
        if dialer is not None:
            stack.push_async_callback(dialer.close)
        server = APIServer(config, store, clock, dialer=dialer)
        await server.start()
        stack.push_async_callback(server.stop)
        if beside is not None:
            await stack.enter_async_context(beside(server, store))
        runner = await stack.enter_async_context(Runner(clock, "kube-apiserver "))
        runner.supervise(serving.keep_renewed, "certificates")
        listener = await serve(
            server.handler,
            serving.host,
            serving.port,
            tls=serving.tls,
            limits=serving.limits,
            oversized=server.oversized,
            sock=None if listening is None else listening(),
        )
        stack.push_async_callback(listener.close)
        if config.profiling_socket and server.paths.profiling is not None:
            await stack.enter_async_context(_profiles(server.paths.profiling, config.profiling_socket))
        stack.push_async_callback(server.withdraw)
        yield store


@contextlib.asynccontextmanager
async def _profiles(handler: Handler, path: str) -> AsyncIterator[None]:
    """Serve profiles on a Unix socket, to whoever may open it: this user. Raises ``OSError``."""
    listener = await serve(handler, "", 0, sock=_unix_socket(path))
    try:
        yield
    finally:
        await listener.close(grace=0.5)
        _remove(path)


def _unix_socket(path: str) -> socket.socket:
    _remove(path)  # of a server that was killed
    sock = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"--debug-socket-path: cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    return sock


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
