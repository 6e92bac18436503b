"""An API server in memory, on virtual time as a rule, and clients of it: what the tests of the API server work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from tiphys.api.object import Object
from tiphys.apiserver.config import Config
from tiphys.apiserver.server import APIServer
from tiphys.client.rest import Client, WatchEvent
from tiphys.runtime.clock import Clock, VirtualClock, VirtualTimeLoop
from tiphys.store.memory import MemoryBackend
from tiphys.wire.http import Headers, Request, Response
from tiphys.wire.inprocess import InProcessTransport

ADMIN = ("admin", ("system:masters",))


class World:
    """``admin`` may do everything; ``client_of`` makes clients of others."""

    def __init__(self, clock: Clock, config: Config | None = None) -> None:
        self.clock = clock
        self.backend = MemoryBackend(self.clock)
        self.server = APIServer(config or Config(seed=1), self.backend, self.clock)
        self.admin = self.client_of(*ADMIN)

    def client_of(self, user: str, groups: tuple[str, ...] = (), agent: str = "test/1") -> Client:
        return Client(InProcessTransport(self.server.handler, (user, groups)), user_agent=agent)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        await self.server.start()
        try:
            yield self
        finally:
            await self.server.stop()
            await self.backend.close()

    async def raw(self, method: str, path: str, body: Any = None, user: Any = ADMIN, **headers: str) -> Response:
        """One request past the client, as a socket would give it; no identity with ``user=None``."""
        from tiphys.wire.http import Peer

        path, _, query = path.partition("?")
        sent = Headers({name.replace("_", "-"): value for name, value in headers.items()})
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        if data:
            sent.setdefault("content-type", "application/json")
        return await self.server.handler(Request(method, path, query, sent, data, Peer(identity=user, secure=True)))

    async def json(self, method: str, path: str, body: Any = None, **more: Any) -> Object:
        response = await self.raw(method, path, body, **more)
        assert isinstance(response.body, bytes)
        found: Object = orjson.loads(response.body)
        return found

    async def settle(self) -> None:
        """Let the server's caches see what was written, as authorization is a moment behind."""
        await self.clock.sleep(0.01)

    async def namespace(self, name: str) -> None:
        """A namespace with its default service account, which a controller would make."""
        await self.json("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        await self.json("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})


def run(work: Callable[[World], Awaitable[None]], config: Config | None = None) -> None:
    """Run a test in a world of its own."""
    loop = VirtualTimeLoop()

    async def main() -> None:
        async with World(VirtualClock(loop), config).running() as world:
            await work(world)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def collect(events: AsyncIterator[WatchEvent], count: int, timeout: float = 30) -> list[tuple[str, str]]:
    """The types and names of the next events; of a bookmark, its revision is left out."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(timeout):
        async for event in events:
            found.append((event.type, event.object["metadata"].get("name", "")))
            if len(found) == count:
                return found
    return found


def config_map(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}}


def pod(name: str, **spec: Any) -> Object:
    containers = [{"name": "c", "image": "registry.k8s.io/pause:3.10"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}
